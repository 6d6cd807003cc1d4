"""Follows the `prd.json` of each open wrapped run: the plan, the stories that pass, the one that is at work.

The file says what passes, not what is begun: ralph and its like take the first open story in each iteration, so that is
what is reported as started. A script that reports its stories itself knows better, and is left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from claude_loop.adopt.git_files import Made
from claude_loop.adopt.prd_file import DEBOUNCE_SECONDS, PrdFile
from claude_loop.adopt.story_starts import Start, StoryStarts
from claude_loop.adopt.wrapped_runs import Tidy, WrappedRun, WrappedRuns, events_of, keep_looking
from claude_loop.clock import Clock
from claude_loop.events import OBSERVERS, Event
from claude_loop.filters import Filter
from claude_loop.formats.git_log import mentions
from claude_loop.formats.prd_json import Plan, PlannedStory
from claude_loop.hub import Hub
from claude_loop.progress.keys import stories_prefix
from claude_loop.subscription import Reset, Subscription

log = structlog.get_logger(__name__)

SOURCE = "prd.json"
POLL_SECONDS = 0.25
# Without a run it looks for one less often: `claude-loop run` itself tells the plan that it begins with.
_IDLE_POLLS = 4
_HEARD = Filter(types=("story.*", "iteration.started"))
_MOST_STORED = 500
# `claude-loop run` tells the plan that it found: its word is waited for this long.
_FIRST_WORD_MS = 3000
# An event holds 64 KiB: a plan that is larger goes with shorter titles, then without them.
_PLAN_BYTES = 60_000


@dataclass(slots=True)
class Watched:
    """``stored`` and ``plan_id`` are those of the last `plan.updated`."""

    run: WrappedRun
    file: PrdFile
    starts: StoryStarts
    plan: Plan | None = None
    plan_id: str = ""
    stored: list[dict[str, Any]] | None = None
    scripted: bool = False


class PrdWatch:
    """``run`` until cancelled. ``poll`` and ``debounce`` are seconds. ``untold`` are the
    commits of a run that were found and are not in the log yet."""

    def __init__(
        self,
        hub: Hub,
        runs: WrappedRuns,
        clock: Clock,
        tidy: Tidy,
        untold: Callable[[WrappedRun], Awaitable[list[Made]]],
        *,
        poll: float = POLL_SECONDS,
        debounce: float = DEBOUNCE_SECONDS,
    ) -> None:
        self._hub = hub
        self._runs = runs
        self._clock = clock
        self._tidy = tidy
        self._untold = untold
        self._poll = poll
        self._debounce = debounce
        self._watched: dict[str, Watched] = {}
        self._heard: Subscription | None = None

    async def run(self) -> None:
        await keep_looking(self.look, self._forget, self._poll, _IDLE_POLLS * self._poll, "changes of prd.json")

    def _forget(self) -> None:
        self._watched.clear()

    async def look(self) -> bool:
        """One look at every run; whether there is one. Raises ``LoadError`` and ``OSError``."""
        await self._hear()
        runs = await self._runs.current()
        self._watched = {key: watched for key, watched in self._watched.items() if any(key == r.key for r in runs)}
        for run in runs:
            watched = self._watched.get(run.key)
            if watched is None:
                watched = self._watched[run.key] = await self._take_up(run)
            watched.run = run
            await self._look_at(watched)
            if run.ended_at is not None:
                self._runs.close(run)
        return bool(runs)

    async def _hear(self) -> None:
        """What was published of stories and iterations since the last look; after a gap everything is taken up anew."""
        if self._heard is None:
            self._heard = (await self._hub.subscribe(_HEARD)).subscription
        while self._heard.lag:
            outcome = await self._heard.next()
            if isinstance(outcome, Reset):
                self._watched.clear()
                self._heard = (await self._hub.subscribe(_HEARD)).subscription
                return
            for event in outcome.events:
                self._take(event)

    def _take(self, event: Event) -> None:
        for watched in self._watched.values():
            if watched.run.run_id != event.run_id or watched.run.prd_id != event.prd_id:
                continue
            if event.type != "iteration.started":
                watched.scripted = watched.scripted or event.source not in OBSERVERS
            else:
                watched.starts.hear(event)

    async def _take_up(self, run: WrappedRun) -> Watched:
        """As it stands in the log: what was told before a restart is not told again."""
        watched = Watched(run, PrdFile(run, self._debounce), StoryStarts(run.started_at))
        told = await events_of(self._hub, run, "story.*", most=_MOST_STORED)
        watched.scripted = any(event.source not in OBSERVERS for event in told)
        begun = await events_of(self._hub, run, "iteration.started", most=_MOST_STORED)
        watched.starts.recall([event for event in reversed(told) if event.source == SOURCE], begun[::-1])
        for plan in await events_of(self._hub, run, "plan.updated", most=1):
            watched.plan_id, watched.stored = plan.id, plan.data.get("stories")
        return watched

    async def _look_at(self, watched: Watched) -> None:
        over = watched.run.ended_at
        if self._expects_first_word(watched):
            if not (told := await events_of(self._hub, watched.run, "plan.updated", most=1)):
                return
            watched.plan_id, watched.stored = told[0].id, told[0].data.get("stories")
        plan = await asyncio.to_thread(watched.file.look, self._clock.monotonic(), at_once=over is not None)
        if plan is not None and over is not None and watched.file.changed_at() * 1000 > over + 2000:
            return  # somebody has gone on with it after the run
        events = []
        if plan is not None:
            events = self._plan_events(watched, plan, await self._last_commits(watched.run, plan))
        # Whether the last story passes is not known while the file settles.
        if over is None and not watched.scripted and not watched.file.is_settling:
            events += self._starts(watched)
        if events:
            await self._hub.publish(events)

    def _expects_first_word(self, watched: Watched) -> bool:
        run = watched.run
        early = self._clock.now_us() // 1000 - run.started_at < _FIRST_WORD_MS
        return early and run.ended_at is None and run.passing is not None and watched.stored is None

    async def _last_commits(self, run: WrappedRun, plan: Plan) -> dict[str, int]:
        """When the last commit of a story was made, as far as the log or git knows of one."""
        untold = await self._untold(run)  # first: what is told meanwhile is then in the log
        stories = await self._hub.log.entities(stories_prefix(run.project, run.prd_id, run.run_id))
        last = {story["story_id"]: story["last_commit"]["at"] for story in stories.values() if story["last_commit"]}
        ids = {story.story_id for story in plan.stories}
        for made in untold:
            story_id = next((name for name in mentions(made.subject) if name in ids), None)
            if story_id is not None:
                last[story_id] = max(made.at, last.get(story_id, 0))
        return last

    def _plan_events(self, watched: Watched, plan: Plan, commits: dict[str, int]) -> list[Event]:
        watched.plan = plan
        data = self._tidy(_fitting(plan))
        if watched.run.title is not None:  # a person named the run
            del data["title"]
        if data.get("stories") == watched.stored:
            return []
        before = {s["story_id"]: s["passes"] for s in watched.stored or () if isinstance(s, dict)}
        if watched.stored is None and watched.run.passing is not None:  # the daemon may have come later than the run
            before = {story.story_id: story.story_id in watched.run.passing for story in plan.stories}
        # When it was written, however late we look.
        at = max(round(watched.file.changed_at() * 1000), watched.run.started_at)
        event = self._event(watched, "plan.updated", data, f"plan.{_digest(watched.plan_id, data)}", at=at)
        if False not in before.values():  # there was nothing to do until now
            watched.starts.since = max(watched.starts.since, at)
        events = [event]
        if not watched.scripted:
            passing = [story for story in plan.stories if story.passes and before.get(story.story_id) is False]
            events += self._passes(watched, passing, event, commits)
        watched.plan_id, watched.stored = event.id, data.get("stories")
        return events

    def _passes(
        self, watched: Watched, stories: list[PlannedStory], plan: Event, commits: dict[str, int]
    ) -> list[Event]:
        """They pass now. Of what nobody saw begin no more is known than that it was after what had passed before; of
        several, that each was done about when its last commit was made. Those without one were done ``together``: how
        long each of them took is not known."""
        events, starts = [], watched.starts
        since, after = starts.since, starts.passed_at
        in_order = sorted(stories, key=lambda story: commits.get(story.story_id, plan.at))
        together = sum(commits.get(story.story_id, plan.at) >= plan.at for story in stories)
        for story in in_order:
            name = _digest(plan.id, story.story_id)
            began_at = starts.begun.get(story.story_id)
            start_at = min(since, plan.at) if began_at is None else began_at
            done_at = plan.at if story is in_order[-1] else min(commits.get(story.story_id, plan.at), plan.at)
            done_at = max(done_at, start_at)
            if began_at is None:
                data = self._start_data(story, Start(start_at), after) | {"until": done_at}
                events.append(self._event(watched, "story.started", data, f"start.{name}", story.story_id, start_at))
            done: dict[str, Any] = {"success": True, "status": "completed"}
            if together > 1 and done_at == plan.at:
                done["together"] = together
            events.append(self._event(watched, "story.completed", done, f"pass.{name}", story.story_id, done_at))
            starts.passed(story.story_id, done_at)
            if done_at < plan.at:
                since = after = done_at
        return events

    def _starts(self, watched: Watched) -> list[Event]:
        current = None if watched.plan is None else watched.plan.current()
        if current is None:
            return []
        events, after = [], watched.starts.passed_at
        for start in watched.starts.due(current.story_id):
            # A script may run its loop twice over the same plan: the numbers begin again.
            begun = [] if start.iteration is None else [start.iteration, start.at]
            name = f"start.{_digest(watched.plan_id, current.story_id, begun)}"
            data = self._start_data(current, start, after)
            events.append(self._event(watched, "story.started", data, name, current.story_id, start.at))
        return events

    def _start_data(self, story: PlannedStory, start: Start, after: int | None) -> dict[str, Any]:
        data: dict[str, Any] = {"status": "in_progress"}
        data |= self._tidy({"title": story.title} if story.title else {})
        data |= {} if start.iteration is None else {"iteration": start.iteration}
        return data | ({"after": after} if after else {})

    def _event(
        self,
        watched: Watched,
        type_: str,
        data: dict[str, Any],
        name: str,
        story_id: str | None = None,
        at: int | None = None,
    ) -> Event:
        if story_id is not None:
            data = {"story_id": story_id, **data}
        now = self._clock.now_us() // 1000
        return watched.run.event(type_, data, name, SOURCE, now if at is None else min(at, now), story_id=story_id)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:24]


def _fitting(plan: Plan) -> dict[str, Any]:
    data = plan.data()
    for longest in (80, 0):
        if len(orjson.dumps(data)) <= _PLAN_BYTES:
            break
        data["stories"] = [{**story, "title": story["title"][:longest]} for story in data["stories"]]
    return data

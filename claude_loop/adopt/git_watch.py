"""Publishes the commits that are made in the repository of a wrapped run while it is open.

While nothing happens this is one `stat` a second for each work tree; git itself is asked only about new commits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from claude_loop.adopt.git_details import MOST_AT_ONCE, details
from claude_loop.adopt.git_files import Made, Repository, WorkTree
from claude_loop.adopt.wrapped_runs import Tidy, WrappedRun, WrappedRuns, events_of, keep_looking
from claude_loop.clock import Clock
from claude_loop.events import Event
from claude_loop.formats.git_log import Commit
from claude_loop.hub import Hub
from claude_loop.progress.keys import stories_prefix

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
# The script or the agent's hook that reports the same commit knows more of it: it goes first.
GRACE_SECONDS = 1.5
# A directory may become a repository while the run is under way.
_SEARCH_SECONDS = 5.0
_MOST_KNOWN = 2000
# A repository in which git hangs is asked no more for this long: every look at it would keep all others waiting.
_UNASKED_SECONDS = 300.0


@dataclass(slots=True)
class Watched:
    """``waiting``: commits found and not yet told, with the moment of finding on the monotonic clock."""

    run: WrappedRun
    known: set[str]
    repository: Repository | None = None
    searched_at: float = -_SEARCH_SECONDS
    trees: dict[str, WorkTree] = field(default_factory=dict)
    waiting: dict[str, tuple[Made, float]] = field(default_factory=dict)
    complained: bool = False
    unasked_until: float = 0.0


class GitWatch:
    """``run`` until cancelled. ``poll`` and ``grace`` are seconds."""

    def __init__(
        self,
        hub: Hub,
        runs: WrappedRuns,
        clock: Clock,
        tidy: Tidy,
        *,
        poll: float = POLL_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._hub = hub
        self._runs = runs
        self._clock = clock
        self._tidy = tidy
        self._poll = poll
        self._grace = grace
        self._watched: dict[str, Watched] = {}
        self._finding = asyncio.Lock()

    async def run(self) -> None:
        await keep_looking(self.look, self._forget, self._poll, self._poll, "commits")

    def _forget(self) -> None:
        self._watched = {}

    async def look(self) -> bool:
        """One look at every run; whether there is one. Raises ``LoadError`` and ``OSError``."""
        every = await self._find_all()
        for watched, is_over in every:
            await self._tell(watched, is_over=is_over)
            if is_over:
                self._runs.close(watched.run)
        return bool(every)

    async def untold(self, run: WrappedRun) -> list[Made]:
        """The commits of a run that were found by now and are still to be told, in their order: of somebody else's
        repository git has not said that they are to be. Raises as ``look``."""
        await self._find_all()
        watched = self._watched.get(run.key)
        ours = watched is not None and watched.repository is not None and watched.repository.ours
        return [made for made, _ in watched.waiting.values()] if watched is not None and ours else []

    async def _find_all(self) -> list[tuple[Watched, bool]]:
        """Every run, and whether it was over when its commits were looked for: then there will be no more."""
        async with self._finding:
            runs = await self._runs.current()
            before, now = self._watched, {run.key: run for run in runs}
            self._watched = {key: before.get(key) or await self._take_up(run) for key, run in now.items()}
            every = list(self._watched.values())
            for watched in every:
                watched.run = now[watched.run.key]
                found: dict[str, tuple[Made, float]] = {}
                try:
                    await asyncio.to_thread(self._find, watched, found)
                except OSError as failure:  # of this repository: the others are not to wait for it
                    self._complain(watched, failure)
                # The end of a run is often heard of after what somebody commits next.
                still = {name: one for name, one in watched.waiting.items() if _is_of(watched.run, one[0])}
                watched.waiting = still | found
            return [(watched, watched.run.ended_at is not None) for watched in every]

    async def _take_up(self, run: WrappedRun) -> Watched:
        stored = await events_of(self._hub, run, "commit.created", most=_MOST_KNOWN)
        return Watched(run, {hash_ for e in stored if isinstance(hash_ := e.data.get("commit_hash"), str)})

    def _complain(self, watched: Watched, failure: OSError) -> None:
        if not watched.complained:
            watched.complained = True
            log.warning("a repository cannot be read", run=watched.run.run_id, reason=str(failure))

    def _find(self, watched: Watched, found: dict[str, tuple[Made, float]]) -> None:
        """Put what is to wait from now on into ``found``."""
        run, now = watched.run, self._clock.monotonic()
        if watched.repository is None:
            if now - watched.searched_at < _SEARCH_SECONDS and run.ended_at is None:
                return
            watched.searched_at = now
            watched.repository = Repository.around(run.cwd)
        if watched.repository is None:
            return
        for git_dir in (watched.repository.git_dir, *self._added_trees(watched.repository, run)):
            tree = watched.trees.setdefault(str(git_dir), WorkTree(git_dir))
            for made in tree.news(run.started_at):
                if _is_of(run, made) and made.commit_hash not in watched.known:
                    watched.known.add(made.commit_hash)
                    found[made.commit_hash] = (made, now)

    def _added_trees(self, repository: Repository, run: WrappedRun) -> list[Any]:
        """Work trees made during a run in the main one, unless another wrapped run is at work in them."""
        if repository.git_dir != repository.common:
            return []
        others = {
            str(other.repository.git_dir)
            for other in self._watched.values()
            if other.run is not run and other.repository is not None
        }
        return [path for path in repository.added_work_trees(run.started_at / 1000) if str(path) not in others]

    async def _tell(self, watched: Watched, *, is_over: bool) -> None:
        due = self._clock.monotonic() - self._grace
        ready = [made for made, found_at in watched.waiting.values() if is_over or found_at <= due]
        for start in range(0, len(ready), MOST_AT_ONCE):
            some = ready[start : start + MOST_AT_ONCE]
            assert watched.repository is not None  # noqa: S101 - where they were found
            told = await self._details(watched, watched.repository.top, some)
            # Of somebody else's repository only git itself, by its `safe.directory`, may say that it is trusted.
            credible = [made for made in some if watched.repository.ours or made.commit_hash in told]
            events = [self._event(watched.run, made, told.get(made.commit_hash)) for made in credible]
            await self._find_stories(watched.run, events)
            if events:
                await self._hub.publish(events)
            for made in some:
                del watched.waiting[made.commit_hash]

    async def _details(self, watched: Watched, top: Path, some: list[Made]) -> dict[str, Commit]:
        if self._clock.monotonic() < watched.unasked_until:
            return {}
        told = await details(top, [made.commit_hash for made in some])
        if told is None:
            watched.unasked_until = self._clock.monotonic() + _UNASKED_SECONDS
        return told or {}

    def _event(self, run: WrappedRun, made: Made, commit: Commit | None) -> Event:
        commit = commit or Commit(made.commit_hash, made.subject)
        commit.branch = made.branch
        data = commit.data()
        if made.amends is not None:
            data["amends"] = made.amends
        at = min(made.at, self._clock.now_us() // 1000)
        return run.event("commit.created", self._tidy(data), f"git.{made.commit_hash}", "git", at)

    async def _find_stories(self, run: WrappedRun, events: list[Event]) -> None:
        """The story that was at work when a commit was made: by now it may be done, and the next one begun."""
        prefix = stories_prefix(run.project, run.prd_id, run.run_id)
        stories = list((await self._hub.log.entities(prefix)).values()) if events else []
        ids = {story["story_id"] for story in stories}
        for event in events:
            if ids.isdisjoint(event.data.get("mentions", ())):  # else the log takes the one that is named
                at_work = [story["story_id"] for story in stories if _was_at_work(story, event.at)]
                event.story_id = at_work[0] if len(at_work) == 1 else None


def _is_of(run: WrappedRun, made: Made) -> bool:
    return run.ended_at is None or made.at <= run.ended_at


def _was_at_work(story: dict[str, Any], at: int) -> bool:
    return any(
        attempt["started_at"] <= at and (attempt["finished_at"] is None or at <= attempt["finished_at"])
        for attempt in story["attempts"]
    )

"""A run that events are changing, with its stories: what is known of it at once, what waits for the last event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from claude_loop.events import Event
from claude_loop.progress.documents import RunDocument, StoryDocument, new_story
from claude_loop.progress.keys import story_key
from claude_loop.progress.parts import Counts
from claude_loop.progress.states import COUNTED_AS, judge_run, judge_story
from claude_loop.progress.timing import record_activity

NAMED_CLAIMS = 5
_DONE = ("done·claimed", "done·verified")


class RunDraft:
    """``document`` is the run's, to be changed. ``last`` and ``moments`` are those of the signs of life since."""

    __slots__ = ("_get", "_stories", "_unjudged", "document", "last", "moments")

    def __init__(self, document: RunDocument, get: Callable[[str], Any]) -> None:
        self._get = get
        self.document = document
        self.last: Event | None = None
        self.moments: list[int] = []
        self._stories: dict[str, StoryDocument] = {}
        self._unjudged: dict[str, StoryDocument] = {}

    def touch_story(self, story_id: str, moment: int) -> StoryDocument:
        """A story of the run, to be changed; a new one, first seen at ``moment``, if it was not seen before."""
        story = self._stories.get(story_id)
        if story is None:
            stored: StoryDocument | None = self._get(self._key(story_id))
            story = self._stories[story_id] = self._add(story_id, moment) if stored is None else stored.copy()
        return story

    def knows_story(self, story_id: str) -> bool:
        return self.story(story_id) is not None

    def story(self, story_id: str) -> StoryDocument | None:
        """Not to be changed."""
        story: StoryDocument | None = self._stories.get(story_id) or self._get(self._key(story_id))
        return story

    def _key(self, story_id: str) -> str:
        run = self.document
        return story_key(run["project"], run["prd_id"], run["run_id"], story_id)

    def _add(self, story_id: str, moment: int) -> StoryDocument:
        run = self.document
        story = new_story(run, story_id, moment)
        run["stories"] += 1
        self._count(run["counts"].copy())
        return story

    def expect_stories(self, total: int) -> None:
        """As many stories as ``total`` were announced."""
        self.document["total_stories"] = total
        self._count(self.document["counts"].copy())

    def settle(self, story: StoryDocument) -> None:
        """See to it that a changed story is judged anew, and the run's counts and claims kept in step.

        Claims stand in the order of their events, so a story that is done, or was, is judged at once. Nothing asks
        how many others are running or failing before the last event.
        """
        if story["completed"] or story["state"] in _DONE:
            self._judge(story)
        else:
            self._unjudged[story["story_id"]] = story

    def _judge(self, story: StoryDocument) -> None:
        before, why_before = story["state"], story["why"]
        after, why = judge_story(story)
        if why != why_before:
            story["why"] = why
        if after != before:
            story["state"] = after
            counts = self.document["counts"].copy()
            counts[COUNTED_AS[before]] -= 1  # type: ignore[literal-required]
            counts[COUNTED_AS[after]] += 1  # type: ignore[literal-required]
            self._count(counts)
        if (before in _DONE) != (after in _DONE):
            self._tell_dependents(story, done=after in _DONE)
        if "done·claimed" in (before, after) and (after != before or why != why_before):
            claims = [claim for claim in self.document["claims"] if claim["story_id"] != story["story_id"]]
            if after == "done·claimed":
                claims.append({"story_id": story["story_id"], "why": why})
            self.document["claims"] = claims[-NAMED_CLAIMS:]

    def _tell_dependents(self, story: StoryDocument, *, done: bool) -> None:
        story_id = story["story_id"]
        for name in story["needed_by"]:
            other = self.touch_story(name, story["last_at"])
            if done == (story_id in other["after"]):
                after = {*other["after"], story_id} - ({story_id} if done else set())
                needs = dict.fromkeys(other["depends_on"])
                other["after"] = [need for need in needs if need in after and need not in other["circle"]]
                self._judge(other)

    def _count(self, counts: Counts) -> None:
        """Those neither seen nor in another state are to do."""
        run = self.document
        others = counts["running"] + counts["failing"] + counts["blocked"] + counts["claimed"] + counts["verified"]
        counts["todo"] = max(run["stories"], run["total_stories"] or 0) - others
        run["counts"] = counts

    def settled(self) -> RunDocument:
        """The run after its last event."""
        run, last = self.document, self.last
        for story in self._unjudged.values():
            self._judge(story)
        if last is not None:
            latest = max(run["last"]["at"], *self.moments)
            run["last"] = {"seq": last.seq, "at": latest, "type": last.type}
            record_activity(run, self.moments)
        run["state"], run["why"] = judge_run(run)
        return run

    def is_done(self, story_id: str) -> bool:
        story = self.story(story_id)
        return story is not None and story["state"] in _DONE

    def stories_by_key(self) -> Iterable[tuple[str, StoryDocument]]:
        return ((self._key(story_id), story) for story_id, story in self._stories.items())

"""The documents that one event changes: copies, made when first touched, so that what is stored stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_loop.events import Event
from claude_loop.progress.documents import Counts, PrdDocument, RunDocument, StoryDocument
from claude_loop.progress.fresh import new_prd, new_story
from claude_loop.progress.keys import prd_key, run_key, story_key
from claude_loop.progress.reading import moment_of
from claude_loop.progress.states import COUNTED_AS, judge_story

# Documents in general. What a key holds is known from the key, so a document read by key is Any to the type checker:
# a `cast` is a call, and this runs for every event.
Document = Any
Get = Callable[[str], Document]
NAMED_CLAIMS = 5


class Draft:
    """One event at work on its PRD, its run and its stories.

    The copies are shallow: rules replace the lists and objects inside a document, they never change them in place.
    """

    __slots__ = ("_get", "documents", "event", "moment", "prd_id", "run", "story")

    run: RunDocument  # set before any rule runs
    story: StoryDocument | None  # likewise; the event's own, if it names one

    def __init__(self, event: Event, prd_id: str, get: Get) -> None:
        self._get = get
        self.event = event
        self.prd_id = prd_id
        self.moment = moment_of(event)
        self.documents: dict[str, Document] = {}

    @property
    def data(self) -> dict[str, Any]:
        data = self.event.data
        return data if type(data) is dict else {}

    def _copy(self, key: str) -> Document:
        document = self.documents.get(key)
        if document is None:
            document = self._get(key)
            if document is not None:
                document = self.documents[key] = document.copy()
        return document

    def stored_prd(self) -> PrdDocument | None:
        """As it was before this event; not to be changed."""
        prd: PrdDocument | None = self._get(prd_key(self.event.project, self.prd_id))
        return prd

    def stored_run(self, run_id: str) -> RunDocument | None:
        """As it was before this event; not to be changed."""
        run: RunDocument | None = self._get(run_key(self.event.project, self.prd_id, run_id))
        return run

    def prd(self) -> PrdDocument:
        """The event's PRD, to be changed; a new one, without a run, if it was not seen before."""
        key = prd_key(self.event.project, self.prd_id)
        prd: PrdDocument | None = self._copy(key)
        if prd is None:
            prd = self.documents[key] = new_prd(self.event.project, self.prd_id, self.moment)
        return prd

    def touch_run(self, run_id: str) -> RunDocument | None:
        """A run of the PRD, to be changed. Touched once only."""
        key = run_key(self.event.project, self.prd_id, run_id)
        run: RunDocument | None = self._get(key)
        if run is not None:
            run = self.documents[key] = run.copy()
        return run

    def add_run(self, run: RunDocument) -> None:
        self.documents[run_key(run["project"], run["prd_id"], run["run_id"])] = run

    def touch_story(self, story_id: str) -> StoryDocument:
        """A story of the run, to be changed; a new one if it was not seen before."""
        run = self.run
        key = story_key(self.event.project, self.prd_id, run["run_id"], story_id)
        story: StoryDocument | None = self._copy(key)
        if story is None:
            story = self.documents[key] = new_story(run, story_id, self.moment)
            run["stories"] += 1
            self._count(run["counts"].copy())
        return story

    def settle(self, story: StoryDocument) -> None:
        """Judge a changed story anew, and keep its run's counts and claims in step."""
        before, why_before = story["state"], story["why"]
        after, why = judge_story(story)
        if why != why_before:
            story["why"] = why
        if after != before:
            story["state"] = after
            counts = self.run["counts"].copy()
            counts[COUNTED_AS[before]] -= 1  # type: ignore[literal-required]
            counts[COUNTED_AS[after]] += 1  # type: ignore[literal-required]
            self._count(counts)
        if "done·claimed" in (before, after) and (after != before or why != why_before):
            claims = [claim for claim in self.run["claims"] if claim["story_id"] != story["story_id"]]
            if after == "done·claimed":
                claims.append({"story_id": story["story_id"], "why": why})
            self.run["claims"] = claims[-NAMED_CLAIMS:]

    def reopen_run(self) -> None:
        """Work begins after the end was reported: the run goes on."""
        run = self.run
        if run["finished_at"] is not None:
            run["finished_at"] = run["prd_success"] = run["run_success"] = run["exit_code"] = None

    def expect_stories(self, total: int) -> None:
        """As many stories as ``total`` were announced for the run."""
        self.run["total_stories"] = total
        self._count(self.run["counts"].copy())

    def _count(self, counts: Counts) -> None:
        """Those neither seen nor in another state are to do."""
        run = self.run
        others = counts["running"] + counts["failing"] + counts["blocked"] + counts["claimed"] + counts["verified"]
        counts["todo"] = max(run["stories"], run["total_stories"] or 0) - others
        run["counts"] = counts

"""What one watcher of the live state sees: which documents, how they are shown, and what is new in them.

It holds every PRD and its latest run, and the sessions of agents that belong to no PRD; of one chosen PRD all runs, and
of one of them the stories and the agents' sessions. A document that it
no longer holds, because another run became the latest, is gone for the watcher, as one that was forgotten is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_loop.eventlog.base import DocumentsAtOnce
from claude_loop.progress.documents import Patch
from claude_loop.progress.draft import Document
from claude_loop.progress.keys import (
    AGENTS,
    PRDS,
    RUNS,
    SESSIONS,
    STORIES,
    prd_key,
    run_key,
    runs_prefix,
    sessions_prefix,
    stories_prefix,
)
from claude_loop.progress.passing import LEFT_ALONE_MS, next_change_by_key, shown_by_key
from claude_loop.progress.reducer import difference

if TYPE_CHECKING:
    from claude_loop.progress.state_feed import StateFeed


class WatchedPrd(NamedTuple):
    """The PRD a watcher looks at closely, and which run of it; None is the latest, whichever that is."""

    project: str | None
    prd_id: str
    run_id: str | None = None


class StatePatches(NamedTuple):
    """What is new, up to the event ``seq`` and the moment ``now``, in milliseconds."""

    seq: int
    now: int
    patches: list[Patch]


class Watch:
    """Made by ``StateFeed.watch``. ``seq`` is the last event that ``documents`` and what was taken since hold."""

    def __init__(self, feed: StateFeed, prd: WatchedPrd | None, number: int) -> None:
        self.number = number  # of the last change seen
        self.seq = 0
        self._feed = feed
        self._prd = prd
        self._prd_key = None if prd is None else prd_key(prd.project, prd.prd_id)
        self._runs = None if prd is None else runs_prefix(prd.project, prd.prd_id)
        self._stories: str | None = None  # prefix of the stories held
        self._sessions = None if prd is None else sessions_prefix(prd.project, prd.prd_id)
        self._run_id: str | None = None  # whose stories and sessions are held
        self._latest: dict[str, str] = {}  # key of a PRD: key of its latest run
        self._current: dict[str, Document] = {}  # as stored
        self._sent: dict[str, Document] = {}  # as the watcher has them
        self._due: dict[str, int] = {}  # when time will change a run next
        self._begun_at = 0
        self._touched: dict[str, int] = {}  # key: the event that touched it

    # --- the beginning

    def choose(self, stored: DocumentsAtOnce) -> dict[str, Document]:
        """What a new watcher holds. Called in another thread, once."""
        documents: dict[str, Document] = dict(stored.under(PRDS))
        for prd in list(documents.values()):
            key = run_key(prd["project"], prd["prd_id"], prd["run_id"])
            run = stored.get(key)
            if run is not None:
                documents[key] = run
        if self._prd is not None and self._prd_key in documents:
            project, prd_id, run_id = self._prd
            run_id = run_id or documents[self._prd_key]["run_id"]
            documents |= stored.under(runs_prefix(project, prd_id))
            documents |= stored.under(stories_prefix(project, prd_id, run_id))
            documents |= stored.under(sessions_prefix(project, prd_id))
        now = self._feed.now_ms
        for key, agent in stored.under(AGENTS).items():
            # Those that were silent for longer and are not to be heard of are history.
            if agent["last"]["at"] >= now - LEFT_ALONE_MS or self._next_change(key, agent, now) is not None:
                documents[key] = agent
        return documents

    def begin(self, seq: int, documents: dict[str, Document]) -> None:
        """``documents`` are what was chosen, as they stood after the event ``seq``."""
        self.seq = self._begun_at = seq
        now = self._feed.now_ms
        for key in sorted(documents):
            self._place(key, documents[key], seq, now)
        self._touched.clear()
        self._sent = {key: self._shown(key, document, now) for key, document in self._current.items()}

    @property
    def documents(self) -> dict[str, Any]:
        """Those the watcher has been given, as they are shown."""
        return self._sent

    # --- what is new

    async def wait(self) -> None:
        """Return when there may be something to take."""
        while not self._feed.has_changed_since(self.number):
            now = self._feed.now_ms
            due = min(self._due.values(), default=None)
            if due is not None and due <= now:
                return
            seconds = self._feed.longest_sleep if due is None else min((due - now) / 1000, self._feed.longest_sleep)
            try:
                async with asyncio.timeout(seconds):
                    await self._feed.next_change()
            except TimeoutError:
                continue

    def take(self) -> StatePatches:
        """What has changed since the last time; there may be nothing."""
        now = self._feed.now_ms
        self.number, changes = self._feed.changes_since(self.number)
        for key in sorted(changes):  # a PRD comes before its runs, a run before its stories
            change = changes[key]
            if change.seq <= self._begun_at:
                continue  # the documents it began with hold it
            self._place(key, change.document, change.seq, now)
            self.seq = max(self.seq, change.seq)
        for key in [key for key, due in self._due.items() if due <= now]:
            self._touched.setdefault(key, self.seq)
            self._await_change(key, self._current[key], now)
        self._feed.trim()
        touched, self._touched = self._touched, {}
        return StatePatches(self.seq, now, [p for key, seq in touched.items() for p in self._patches(key, seq, now)])

    def _patches(self, key: str, seq: int, now: int) -> list[Patch]:
        document = self._current.get(key)
        before = self._sent.get(key)
        if document is None:
            self._sent.pop(key, None)
            return [] if before is None else [{"seq": seq, "at": now, "path": [key], "value": None}]
        after = self._sent[key] = self._shown(key, document, now)
        return difference(key, before, after, seq, now)

    def _shown(self, key: str, document: Document, now: int) -> Document:
        return shown_by_key(key, document, now, self._feed.stalled_after_ms)

    # --- which documents

    def _place(self, key: str, document: Document | None, seq: int, now: int) -> None:
        """Hold a document as it is now, or let go of it; None: it is gone."""
        if document is None:
            self._drop(key, seq)
            self._latest.pop(key, None)
        elif key.startswith(PRDS):
            self._hold(key, document, seq)
            self._follow_latest(key, document, seq)
        elif key.startswith(RUNS):
            if self._wants_run(key, document):
                self._hold(key, document, seq)
                self._await_change(key, document, now)
        elif key.startswith(AGENTS) or (self._stories is not None and key.startswith(self._stories)):
            self._hold(key, document, seq)
            self._await_change(key, document, now)
        elif self._sessions is not None and key.startswith(self._sessions):
            if document["run_id"] == self._run_id:
                self._hold(key, document, seq)
                self._await_change(key, document, now)
            else:  # it goes on in another run
                self._drop(key, seq)

    def _hold(self, key: str, document: Document, seq: int) -> None:
        self._current[key] = document
        self._touched[key] = seq

    def _drop(self, key: str, seq: int) -> None:
        if self._current.pop(key, None) is not None:
            self._due.pop(key, None)
            self._touched[key] = seq

    def _follow_latest(self, key: str, prd: Document, seq: int) -> None:
        project, prd_id, run_id = prd["project"], prd["prd_id"], prd["run_id"]
        latest = run_key(project, prd_id, run_id)
        before = self._latest.get(key)
        self._latest[key] = latest
        if key != self._prd_key:
            if before is not None and before != latest:
                self._drop(before, seq)
            return
        assert self._prd is not None  # noqa: S101 - for the type checker: it has a key
        stories = stories_prefix(project, prd_id, self._prd.run_id or run_id)
        if stories != self._stories:
            for below in [held for held in self._current if held.startswith((STORIES, SESSIONS))]:
                self._drop(below, seq)
            self._stories = stories
            self._run_id = self._prd.run_id or run_id

    def _wants_run(self, key: str, run: Document) -> bool:
        if self._runs is not None and key.startswith(self._runs):
            return True
        return self._latest.get(prd_key(run["project"], run["prd_id"])) == key

    def _await_change(self, key: str, document: Document, now: int) -> None:
        due = self._next_change(key, document, now)
        if due is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due

    def _next_change(self, key: str, document: Document, now: int) -> int | None:
        return next_change_by_key(key, document, now, self._feed.stalled_after_ms)

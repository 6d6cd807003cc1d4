"""The log in memory: for tests, and for servers embedded without a state directory. Nothing survives the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from claude_loop.clock import Clock, SystemClock
from claude_loop.errors import ClaudeLoopError, Internal
from claude_loop.eventlog.base import (
    Appended,
    Chain,
    CommitListener,
    DocumentListener,
    DocumentsAtOnce,
    LogState,
    NoProjection,
    Projection,
    ReadPage,
    SpoolOffset,
    Stored,
    no_watcher,
    nobody,
)
from claude_loop.eventlog.facts import Facts, newest
from claude_loop.eventlog.numbering import EntityCache, Numbering, fold_in
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.ids import NO_EVENT, id_digest, new_epoch

T = TypeVar("T")


class MemoryEventLog:
    """An ``EventLog`` whose events live in a list. ``first`` moves when ``prune`` forgets the oldest."""

    def __init__(self, projection: Projection | None = None, clock: Clock | None = None) -> None:
        self.projection: Projection = projection or NoProjection()
        self.on_documents: DocumentListener = no_watcher
        self._clock = clock or SystemClock()
        self._events: list[Event] = []
        self._by_id: dict[str, Event] = {}
        self._documents: dict[str, dict[str, Any]] = {}
        self._trimmed_documents: dict[str, dict[str, Any]] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._cache = _cache_of(self._documents)
        self._facts = Facts(lambda *wanted: newest(self._events, *wanted))
        self._blanked = 0
        self._received_at = 0
        self._listener: CommitListener = nobody
        digest = id_digest(NO_EVENT)
        self._state = LogState(new_epoch(self._clock), 1, 0, digest, digest)

    async def open(self, listener: CommitListener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = nobody

    @property
    def state(self) -> LogState:
        return self._state

    @property
    def failure(self) -> ClaudeLoopError | None:
        return None

    def append(self, events: Sequence[Event]) -> asyncio.Future[list[Appended]]:
        return self.append_made(lambda: events, len(events))

    def append_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        del most
        chain = chain or Chain()
        place = chain.place()
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        try:
            chain.insist(place)
            answer.set_result(self._store_made(make(), offsets))
        except Exception as failure:  # noqa: BLE001 - told to the publisher
            refusal = (
                failure
                if isinstance(failure, ClaudeLoopError)
                else Internal(f"The events could not be stored: {failure}.")
            )
            chain.break_at(place, refusal)
            answer.set_exception(refusal)
        return answer

    def _store_made(self, events: Sequence[Event], offsets: Sequence[SpoolOffset]) -> list[Appended]:
        self._received_at = max(self._received_at, self._clock.now_us() // 1000)
        numbering = Numbering(self._state, self._received_at, self._look_up, self._facts, self.projection, self._cache)
        (outcome,) = numbering.number([events])
        documents = self._cache.dirty
        self._store(numbering.new)
        for name, inode, offset in offsets:
            if offset is None:
                self._offsets.pop((name, inode), None)
            else:
                self._offsets[name, inode] = offset
        if numbering.new:
            self.on_documents(documents, self._state)
            self._listener(numbering.new, self._state)
        return outcome

    def _look_up(self, ids: Sequence[str]) -> dict[str, Event]:
        return {id_: self._by_id[id_] for id_ in ids if id_ in self._by_id}

    def _store(self, new: list[Event]) -> None:
        _merge(self._documents, self._cache.dirty)
        self._cache.folded()
        if new:
            self._events += new
            self._by_id.update((event.id, event) for event in new)
            last = new[-1]
            state = self._state
            self._state = LogState(state.epoch, state.first, last.seq, id_digest(last.id), state.trimmed_digest)

    async def read(
        self, after: int, limit: int, filter_: Filter = MATCH_ALL, *, max_bytes: int | None = None
    ) -> ReadPage:
        return self._scan(after, self._state.head, limit, filter_, max_bytes, None)

    async def search(
        self, after: int, limit: int, filter_: Filter, text: str, *, within: int | None = None
    ) -> ReadPage:
        end = self._state.head if within is None else min(self._state.head, after + within)
        return self._scan(after, end, limit, filter_, None, text)

    def _scan(
        self, after: int, end: int, limit: int, filter_: Filter, max_bytes: int | None, text: str | None
    ) -> ReadPage:
        found: list[Event] = []
        size = 0
        for event in self._events[max(0, after - self._state.first + 1) : max(0, end - self._state.first + 1)]:
            if not filter_.matches(event) or not _contains(event, text):
                continue
            size += len(event.json)
            if found and max_bytes is not None and size > max_bytes:
                return ReadPage(found, found[-1].seq, self._state.first)
            found.append(event)
            if len(found) == limit:
                return ReadPage(found, event.seq, self._state.first)
        return ReadPage(found, max(after, end), self._state.first)

    async def read_backwards(
        self,
        before: int | None,
        limit: int,
        filter_: Filter = MATCH_ALL,
        *,
        text: str | None = None,
        within: int | None = None,
    ) -> list[Event]:
        below = self._state.head + 1 if before is None else before
        least = 0 if within is None else min(below, self._state.head + 1) - within
        found: list[Event] = []
        for event in reversed(self._events):
            if len(found) == limit:
                break
            if least <= event.seq < below and filter_.matches(event) and _contains(event, text):
                found.append(event)
        return found

    async def position_since(self, received_ms: int) -> int:
        for event in self._events:
            if event.received_at >= received_ms:
                return event.seq - 1
        return self._state.head

    async def digest_at(self, seq: int) -> str | None:
        state = self._state
        if seq == state.first - 1:
            return state.trimmed_digest
        if state.first <= seq <= state.head:
            return id_digest(self._events[seq - state.first].id)
        return None

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return _matching(self._documents, prefix)

    async def snapshot(self, choose: Callable[[DocumentsAtOnce], T]) -> tuple[int, T]:
        return self._state.head, choose(_Documents(self._documents))

    async def trimmed_entities(self, prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
        return self._state.first - 1, _matching(self._trimmed_documents, prefix)

    async def spool_offsets(self) -> list[SpoolOffset]:
        return [SpoolOffset(name, inode, offset) for (name, inode), offset in self._offsets.items()]

    async def prune(self, keep_from_ms: int, keep_events: int, step: int) -> int:
        surplus = len(self._events) - keep_events
        gone = [e for i, e in enumerate(self._events[:step]) if i < surplus or e.received_at < keep_from_ms]
        if not gone:
            return 0
        trimmed = _cache_of(self._trimmed_documents)
        fold_in(self.projection, gone, trimmed)
        for event in gone:
            del self._by_id[event.id]
        _merge(self._trimmed_documents, trimmed.dirty)
        del self._events[: len(gone)]
        state, last = self._state, gone[-1]
        self._state = LogState(state.epoch, last.seq + 1, state.head, state.head_digest, id_digest(last.id))
        self._listener([], self._state)
        return len(gone)

    async def blank(self, step: int) -> bool:
        del step
        for forgetting in [event for event in self._events if event.seq > self._blanked and event.forgets]:
            for event in self._events:
                if event.is_forgotten_by(forgetting):
                    event.blank()
            trimmed = _cache_of(self._trimmed_documents)
            fold_in(self.projection, [forgetting], trimmed)
            _merge(self._trimmed_documents, trimmed.dirty)
        self._blanked = self._state.head
        return False

    async def rebuild(self) -> int:
        self._documents.clear()
        self._documents.update(self._trimmed_documents)
        self._cache.discard()
        fold_in(self.projection, self._events, self._cache)
        _merge(self._documents, self._cache.dirty)
        self._cache.folded()
        return len(self._events)

    async def statistics(self) -> dict[str, Any]:
        size = sum(len(event.json) for event in self._events)
        return {"events": len(self._events), "bytes": size, "commits": None, "commit_ms": None}


def _cache_of(documents: dict[str, dict[str, Any]]) -> EntityCache:
    return EntityCache(documents.get, keys_under=lambda prefix: [key for key in documents if key.startswith(prefix)])


def _merge(documents: dict[str, dict[str, Any]], changed: Stored) -> None:
    for key, document in changed.items():
        if document is None:
            documents.pop(key, None)
        else:
            documents[key] = document


class _Documents:
    """``DocumentsAtOnce``: nothing else runs while they are looked at."""

    def __init__(self, documents: dict[str, dict[str, Any]]) -> None:
        self.get = documents.get
        self._documents = documents

    def under(self, prefix: str) -> dict[str, dict[str, Any]]:
        return _matching(self._documents, prefix)


def _matching(documents: dict[str, dict[str, Any]], prefix: str) -> dict[str, dict[str, Any]]:
    return {key: documents[key] for key in sorted(documents) if key.startswith(prefix)}


def _contains(event: Event, text: str | None) -> bool:
    return text is None or text.lower() in event.json.lower()

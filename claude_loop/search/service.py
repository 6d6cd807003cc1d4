"""Search as the daemon runs it: an index that follows the log in a thread of its own, and the answers."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from claude_loop.clock import until_tick
from claude_loop.errors import NotSupported, ShuttingDown, StorageFailed
from claude_loop.eventlog.base import LogState
from claude_loop.filters import Filter
from claude_loop.heap import give_back
from claude_loop.hub import Hub
from claude_loop.search.finder import Finder, Found
from claude_loop.search.index import SearchIndex, discard, is_spoiled

log = structlog.get_logger(__name__)

T = TypeVar("T")
# Commits come singly; waiting a little makes one batch of many.
GATHER_SECONDS = 0.1
# Behind the log it works for a third of the time, and while events come in masses for a twentieth, so that those who
# publish keep their processor.
PAUSE_TO_WORK, PAUSE_WHILE_BUSY = 2.0, 20.0
BUSY_EVENTS_A_SECOND = 2_000
SHORTEST_PAUSE = 0.005
RETRY_SECONDS = 10.0
# Without news the file is looked after this often: somebody may have deleted it, or a reader found it damaged.
LOOK_SECONDS = 5.0
# Answers are read one at a time, and no more than this many wait for their turn.
_POLITENESS = 10


class Search:
    """Serves one hub whose log is the file ``log_path``. ``run`` keeps the index up; ``find`` answers from it."""

    def __init__(self, hub: Hub, path: Path, log_path: Path) -> None:
        self._hub = hub
        self._paths = path, log_path
        self._index: SearchIndex | None = None
        self._finder: Finder | None = None
        self._there = self._spoiled = False
        self._worked = False
        self._failure: Exception | None = None
        self._indexing = ThreadPoolExecutor(1, thread_name_prefix="search-indexer", initializer=_be_nice)
        self._finding = ThreadPoolExecutor(1, thread_name_prefix="search-finder")

    async def run(self) -> None:
        """Follow the log until cancelled, or until the hub stops. What fails is tried again."""
        while True:
            try:
                await self._follow()
            except ShuttingDown:
                return
            except (sqlite3.Error, OSError) as failure:
                log.warning("the search index cannot be written", reason=str(failure))
                self._failure = failure
                self._spoiled = self._spoiled or is_spoiled(failure)
                await self._in(self._indexing, self._drop_index)
                await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Let go of the files. ``run`` must have ended."""
        await asyncio.gather(
            self._in(self._indexing, self._drop_index),
            self._in(self._finding, self._drop_finder),
        )
        self._indexing.shutdown(wait=False)
        self._finding.shutdown(wait=False)

    async def find(self, expression: str, filter_: Filter, upto: int, limit: int, max_bytes: int) -> Found:
        """The newest matching events up to ``upto``. Raises ``InvalidRequest`` and ``LoadError``."""
        first = self._hub.state.first
        if not self._there:
            if self._failure is not None:
                raise StorageFailed(f"The search index cannot be made: {self._failure}.")
            return Found([], more=False, indexed_upto=first - 1)  # the daemon has only just started
        try:
            return await self._in(self._finding, lambda: self._find(expression, filter_, upto, first, limit, max_bytes))
        except (sqlite3.Error, OSError) as failure:
            self._spoiled = self._spoiled or is_spoiled(failure)
            await self._in(self._finding, self._drop_finder)
            raise StorageFailed(f"The search index cannot be read: {failure}.") from failure

    def _find(self, expression: str, filter_: Filter, upto: int, first: int, limit: int, max_bytes: int) -> Found:
        if self._finder is None:
            self._finder = Finder(*self._paths)
        return self._finder.find(expression, filter_, upto, first, limit, max_bytes)

    async def _follow(self) -> None:
        if self._spoiled:
            await self._discard()
        await self._in(self._indexing, lambda: self._open(self._hub.state))
        self._there, self._failure = True, None
        rate = _Rate(self._hub.state.head, time.perf_counter())
        while not self._spoiled:
            state, begun = self._hub.state, time.perf_counter()
            busy = rate.of(state.head, begun) > BUSY_EVENTS_A_SECOND
            if await self._in(self._indexing, partial(self._step, state)):
                self._worked = True
                pause = PAUSE_WHILE_BUSY if busy else PAUSE_TO_WORK
                await asyncio.sleep(max(SHORTEST_PAUSE, pause * (time.perf_counter() - begun)))
            elif self._hub.state is state and not self._spoiled:
                await self._news()

    async def _news(self) -> None:
        try:
            async with asyncio.timeout(until_tick(asyncio.get_running_loop().time(), LOOK_SECONDS)):
                await self._hub.next_commit()
        except TimeoutError:
            if self._worked:
                self._worked = False
                await self._in(self._indexing, self._rest)
            return
        await asyncio.sleep(GATHER_SECONDS)

    async def _discard(self) -> None:
        log.warning("search.db is made anew: it is damaged or gone")
        self._there, self._failure = False, None  # who searches meanwhile hears that nothing is indexed
        await self._in(self._finding, self._drop_finder)
        await self._in(self._indexing, self._drop_index)
        await self._in(self._indexing, partial(discard, self._paths[0]))
        self._spoiled = False

    def _open(self, state: LogState) -> None:
        if self._index is None:
            self._index = SearchIndex(*self._paths)
            self._index.fit(state)

    def _step(self, state: LogState) -> bool:
        assert self._index is not None  # noqa: S101 - for the type checker: opened before
        if not self._index.is_in_place():
            self._spoiled = True
            return False
        return self._index.step(state)

    def _rest(self) -> None:
        if self._index is not None:
            self._index.rest()
        give_back()

    def _drop_index(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            index.close()

    def _drop_finder(self) -> None:
        finder, self._finder = self._finder, None
        if finder is not None:
            finder.close()

    async def _in(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)


class _Rate:
    """Events a second since the last time it was asked."""

    def __init__(self, head: int, now: float) -> None:
        self._head, self._now = head, now

    def of(self, head: int, now: float) -> float:
        since, self._head = head - self._head, head
        seconds, self._now = now - self._now, now
        return since / max(seconds, 1e-3)


def is_possible() -> bool:
    """Whether this Python's SQLite can search."""
    with sqlite3.connect(":memory:") as connection:
        options = {option for (option,) in connection.execute("PRAGMA compile_options")}
    connection.close()
    return "ENABLE_FTS5" in options


def not_possible() -> NotSupported:
    return NotSupported("There is no search here.", hint="`GET /api/events?q=` looks through the log itself.")


def _be_nice() -> None:
    """On Linux a thread has a priority of its own: indexing takes what publishing leaves."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _POLITENESS)

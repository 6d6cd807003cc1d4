"""The live state: whoever watches gets the documents of the read model once, and then what changes in them.

The log's writer knows which documents a commit changed, so nothing is read for a change, and nothing is computed
before somebody asks. While nobody watches, a commit costs one look at an empty set.

No watcher owns a queue. Of each document the feed keeps the latest change, ordered by when it came; a watcher
remembers how far it has looked, and finds what it missed, however much that was, as one difference a document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from claude_loop.clock import Clock
from claude_loop.eventlog.base import EventLog, LogState, Stored
from claude_loop.progress.watch import Watch, WatchedPrd


class Change(NamedTuple):
    """The latest change of one document; ``document`` None: it is gone. ``number`` counts commits while watched."""

    number: int
    seq: int
    document: dict[str, Any] | None


class StateFeed:
    """Serves the watchers of one log, on its event loop. It is the log's only document listener.

    A watcher is woken after ``longest_sleep`` seconds at most: a clock that was set, or a machine that slept, must not
    keep it from seeing that time has passed.
    """

    def __init__(self, log: EventLog, clock: Clock, stalled_after_ms: int, *, longest_sleep: float = 5.0) -> None:
        self.clock = clock
        self.stalled_after_ms = stalled_after_ms
        self.longest_sleep = longest_sleep
        self._log = log
        self._watches: set[Watch] = set()
        self._changes: dict[str, Change] = {}  # the one that changed last is the last
        self._number = 0
        self._next: asyncio.Future[None] | None = None
        log.on_documents = self._stored

    def __len__(self) -> int:
        return len(self._watches)

    async def watch(self, prd: WatchedPrd | None = None) -> Watch:
        """Begin to watch. Raises ``LoadError`` when the documents cannot be read."""
        watch = Watch(self, prd, self._number)
        self._watches.add(watch)  # before anything is read: what is stored meanwhile is not missed
        try:
            watch.begin(*await self._log.snapshot(watch.choose))
        except BaseException:
            self.forget(watch)
            raise
        return watch

    def forget(self, watch: Watch) -> None:
        """Nobody looks at ``watch`` any more; repeating it is harmless."""
        self._watches.discard(watch)
        self.trim()

    @property
    def now_ms(self) -> int:
        return self.clock.now_us() // 1000

    def has_changed_since(self, number: int) -> bool:
        return self._number > number

    def changes_since(self, number: int) -> tuple[int, dict[str, Change]]:
        """The changes a watcher that had seen ``number`` has not seen, and the number it has seen then."""
        missed: dict[str, Change] = {}
        for key, change in reversed(self._changes.items()):
            if change.number <= number:
                break
            missed[key] = change
        return self._number, missed

    async def next_change(self) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    def trim(self) -> None:
        """Let go of the changes that every watcher has seen."""
        seen = min((watch.number for watch in self._watches), default=self._number)
        for key in _up_to(seen, self._changes.items()):
            del self._changes[key]

    def _stored(self, documents: Stored, state: LogState) -> None:
        if not self._watches:
            return
        self._number += 1
        for key, document in documents.items():
            self._changes.pop(key, None)
            self._changes[key] = Change(self._number, state.head, document)
        if self._next is not None:
            self._next.set_result(None)
            self._next = None


def _up_to(number: int, changes: Iterable[tuple[str, Change]]) -> list[str]:
    keys = []
    for key, change in changes:
        if change.number > number:
            break
        keys.append(key)
    return keys

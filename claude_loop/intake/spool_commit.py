"""Committing what was read: events and offsets in one transaction, one batch after the other.

Several batches are on their way at a time, so that the log need not wait for the next: of these none is stored once one
has failed. Otherwise the second, with offsets past both, could be stored without the first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from claude_loop.errors import ClaudeLoopError, LoadError, ShuttingDown
from claude_loop.eventlog.base import Appended, Chain, SpoolOffset
from claude_loop.events import Event
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool_batch import Batch
from claude_loop.intake.spool_reading import LineReader
from claude_loop.intake.spool_table import SpoolTable

log = structlog.get_logger(__name__)

# One that is stored, one that is numbered, and two that wait, while the next is being read. More would be quicker
# still, and keep everybody else's events waiting longer.
BATCHES_IN_FLIGHT = 4
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0


class Publisher(Protocol):
    """What the hub gives the spool."""

    def submit_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]: ...


class Stopping(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Sent:
    """``changes``: of the table's row changes, how many went with it."""

    batch: Batch
    changes: int
    outcomes: asyncio.Future[list[Appended]]


class Committer:
    """Sends batches to the log, in order, and tries again for as long as the storage fails."""

    def __init__(self, hub: Publisher, table: SpoolTable, rejected: RejectedLines, reader: LineReader) -> None:
        self._hub = hub
        self._table = table
        self._rejected = rejected
        self._reader = reader
        self._sent: deque[_Sent] = deque()
        self._chain = Chain()
        self._pause_seconds = FIRST_RETRY_SECONDS
        self._stop = asyncio.Event()
        self.events = 0
        self.failure: ClaudeLoopError | None = None

    def stop(self) -> None:
        """End retrying: what is not committed stays in the files."""
        self._stop.set()

    def batch(self) -> Batch:
        """An empty one."""
        return Batch(self._reader)

    async def put(self, batch: Batch) -> None:
        """Send a batch, once not too many are on their way. Raises ``Stopping``."""
        while len(self._sent) >= BATCHES_IN_FLIGHT:
            await self._settle_oldest()
        if self._stop.is_set():
            await self.settle()
            raise Stopping
        if batch.ends or len(self._table.row_changes) > self._changes_sent:
            self._rejected.record(batch.rejected)
            self._send(batch, len(self._table.row_changes) - self._changes_sent)

    @property
    def _changes_sent(self) -> int:
        return sum(sent.changes for sent in self._sent)

    def _send(self, batch: Batch, changes: int) -> None:
        """With the next so many of the table's row changes."""
        begin = self._changes_sent
        rows = [*self._table.row_changes[begin : begin + changes], *batch.offsets]
        self._sent.append(_Sent(batch, changes, self._hub.submit_made(batch.events, len(batch), rows, self._chain)))

    async def settle(self) -> None:
        """Wait until what was sent is committed. Raises ``Stopping`` if the intake stops before it is."""
        while self._sent:
            await self._settle_oldest()

    async def _settle_oldest(self) -> None:
        sent = self._sent[0]
        try:
            outcomes = await sent.outcomes
        except ShuttingDown:
            raise Stopping from None
        except ClaudeLoopError as failure:
            await self._send_again(await self._take_back(), failure)
        else:
            self._sent.popleft()
            self._committed(sent, outcomes)

    async def _take_back(self) -> list[_Sent]:
        """Those on their way, once all are answered: nothing behind the oldest, which has failed, is stored."""
        sent = list(self._sent)
        await asyncio.gather(*(one.outcomes for one in sent), return_exceptions=True)
        self._sent.clear()
        self._chain = Chain()
        return sent

    async def _send_again(self, sent: list[_Sent], failure: ClaudeLoopError) -> None:
        first = sent[0].batch
        if isinstance(failure, LoadError) or not len(first):
            self._note(failure)
            await self._pause()
        elif rejected := await first.read():
            self._rejected.record(rejected)
        else:
            await self._isolate(first, failure)
        for one in sent:
            self._send(one.batch, one.changes)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), self._pause_seconds)
        except TimeoutError:
            self._pause_seconds = min(2 * self._pause_seconds, LAST_RETRY_SECONDS)
            return
        raise Stopping

    def _note(self, failure: ClaudeLoopError) -> None:
        if self.failure is None or self.failure.code != failure.code:
            log.warning("spooled events wait: the log cannot store them", code=failure.code, reason=failure.message)
        self.failure = failure

    def _committed(self, sent: _Sent, outcomes: list[Appended]) -> None:
        self.failure = None
        self._pause_seconds = FIRST_RETRY_SECONDS
        del self._table.row_changes[: sent.changes]
        sent.batch.committed()
        self.events += len(outcomes)
        self._rejected.record(sent.batch.refused(outcomes))

    async def _isolate(self, batch: Batch, failure: ClaudeLoopError) -> None:
        """One event of the batch cannot be stored, by a defect of ours: the others must not wait for it for ever."""
        log.error("a batch of spooled events cannot be stored", events=len(batch), reason=failure.message)
        if len(batch) == 1:
            self._rejected.record(batch.give_up(failure.message))
            return
        for single in batch.alone():
            self._send(single, 0)
            await self.settle()

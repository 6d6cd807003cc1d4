"""Committing what was read: events and offsets in one transaction, one batch after the other.

Only one batch is on its way at a time, while the next is being read: were two, the first could fail and the second,
with the offsets past both, succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from claude_loop.errors import ClaudeLoopError, Internal, LoadError, ShuttingDown
from claude_loop.eventlog.base import Appended, SpoolOffset
from claude_loop.events import Event
from claude_loop.intake.rejected_lines import RejectedLine, RejectedLines
from claude_loop.intake.spool_merge import Record
from claude_loop.intake.spool_names import line_number
from claude_loop.intake.spool_table import SpoolFile, SpoolTable

log = structlog.get_logger(__name__)

BATCH_EVENTS = 1_000
BATCH_BYTES = 1_048_576
FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0


class Publisher(Protocol):
    """What the hub gives the spool."""

    def submit(
        self, events: Sequence[Event], offsets: Sequence[SpoolOffset] = ()
    ) -> asyncio.Future[list[Appended]]: ...


class Stopping(Exception):
    pass


class Batch:
    """Events in merged order, and how far each file is read once they are committed."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.origins: list[SpoolFile] = []
        self.rejected: list[RejectedLine] = []
        self.ends: dict[SpoolFile, int] = {}
        self.last: dict[SpoolFile, Event] = {}
        self._bytes = 0

    def add(self, records: list[Record]) -> None:
        ends = self.ends
        for _, file, item, end in records:
            if isinstance(item, Event):
                self.events.append(item)
                self.origins.append(file)
                self.last[file] = item
            elif isinstance(item, RejectedLine):
                self.rejected.append(item)
            elif item is not None:  # of one line, so one transaction holds them and its offset
                self.events += item
                self.origins += [file] * len(item)
                self.last[file] = item[0]
            self._bytes += end - ends.get(file, file.offset)
            ends[file] = end

    @property
    def is_full(self) -> bool:
        return len(self.events) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES

    @property
    def offsets(self) -> list[SpoolOffset]:
        return [SpoolOffset(file.row, file.inode, end) for file, end in self.ends.items()]


class Committer:
    """Sends batches to the log, in order, and tries again for as long as the storage fails."""

    def __init__(self, hub: Publisher, table: SpoolTable, rejected: RejectedLines) -> None:
        self._hub = hub
        self._table = table
        self._rejected = rejected
        self._sent: tuple[Batch, int, asyncio.Future[list[Appended]]] | None = None
        self._stop = asyncio.Event()
        self.events = 0
        self.failure: ClaudeLoopError | None = None

    def stop(self) -> None:
        """End retrying: what is not committed stays in the files."""
        self._stop.set()

    async def put(self, batch: Batch) -> None:
        """Send a batch, once the one before is committed. Raises ``Stopping``."""
        await self.settle()
        if self._stop.is_set():
            raise Stopping
        if batch.ends or self._table.row_changes:
            self._rejected.record(batch.rejected)
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        changes = len(self._table.row_changes)
        future = self._hub.submit(batch.events, [*self._table.row_changes, *batch.offsets])
        self._sent = (batch, changes, future)

    async def settle(self) -> None:
        """Wait until what was sent is committed. Raises ``Stopping`` if the intake stops before it is."""
        pause = FIRST_RETRY_SECONDS
        while self._sent is not None:
            batch, changes, future = self._sent
            try:
                outcomes = await future
            except ShuttingDown:
                raise Stopping from None
            except (LoadError, Internal) as failure:
                if isinstance(failure, Internal) and batch.events:
                    await self._isolate(batch, failure)
                    continue
                self._note(failure)
                await self._pause(pause)
                pause = min(2 * pause, LAST_RETRY_SECONDS)
                self._send(batch)
            else:
                self._committed(batch, changes, outcomes)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping

    def _note(self, failure: ClaudeLoopError) -> None:
        if self.failure is None or self.failure.code != failure.code:
            log.warning("spooled events wait: the log cannot store them", code=failure.code, reason=failure.message)
        self.failure = failure

    def _committed(self, batch: Batch, changes: int, outcomes: list[Appended]) -> None:
        self._sent = None
        self.failure = None
        del self._table.row_changes[:changes]
        for file, end in batch.ends.items():
            file.offset = max(file.offset, end)
        for file, event in batch.last.items():
            file.line = max(file.line, line_number(event.id, file.stem))
        self.events += len(batch.events)
        refused = [
            RejectedLine(file.row, 0, outcome.error.message, _told(event))
            for event, file, outcome in zip(batch.events, batch.origins, outcomes, strict=True)
            if outcome.error is not None
        ]
        self._rejected.record(refused)

    async def _isolate(self, batch: Batch, failure: Internal) -> None:
        """One event of the batch cannot be stored, by a defect of ours: the others must not wait for it for ever."""
        log.error("a batch of spooled events cannot be stored", events=len(batch.events), reason=failure.message)
        self._sent = None
        if len(batch.events) <= 1:
            lost = [RejectedLine("", 0, failure.message, _told(event)) for event in batch.events]
            self._rejected.record(lost)
            del batch.events[:], batch.origins[:]
            self._send(batch)
            return
        for event, origin in zip(batch.events, batch.origins, strict=True):
            single = Batch()
            single.events, single.origins = [event], [origin]
            self._send(single)
            await self.settle()
        del batch.events[:], batch.origins[:]
        self._send(batch)


def _told(event: Event) -> bytes:
    """What is kept of an event that is not stored: perhaps because it cannot be written as JSON."""
    try:
        return event.json.encode()
    except (TypeError, ValueError, OverflowError):
        return f"{event.type} {event.id}".encode(errors="replace")

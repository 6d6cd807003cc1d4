"""What goes into one transaction: events in merged order, and how far each file is read once they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from claude_loop.eventlog.base import Appended, SpoolOffset
from claude_loop.events import Event
from claude_loop.intake.rejected_lines import RejectedLine
from claude_loop.intake.spool_merge import Record
from claude_loop.intake.spool_names import line_number
from claude_loop.intake.spool_reading import LineReader
from claude_loop.intake.spool_table import SpoolFile

# A group of the log's writer.
BATCH_EVENTS = 1_024
BATCH_BYTES = 1_048_576
_READ_AT_ONCE = 64


class Batch:
    """Filled by the event loop. While it is on its way it belongs to the log's thread, which calls ``events``."""

    def __init__(self, reader: LineReader) -> None:
        self._reader = reader
        # Each is one event, or a line that one is made of when it is due.
        self._lines: list[Record] = []
        self._events: list[Event] = []
        self.rejected: list[RejectedLine] = []
        self.ends: dict[SpoolFile, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, records: list[Record]) -> list[Record]:
        """Take what there is room for; the rest is returned."""
        for number, record in enumerate(records):
            if self.is_full:
                return records[number:]
            key, file, item, start, end = record
            if isinstance(item, tuple) or item.__class__ is Event:
                self._lines.append(record)
            elif isinstance(item, RejectedLine):
                self.rejected.append(item)
            elif isinstance(item, list):  # of one line, so one transaction holds them and its offset
                self._lines += [(key, file, event, start, end) for event in item]
            self._bytes += end - start
            self.ends[file] = end
        return []

    @property
    def is_full(self) -> bool:
        return len(self._lines) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES

    @property
    def offsets(self) -> list[SpoolOffset]:
        # The row of a file that is gone meanwhile goes too.
        return [SpoolOffset(file.row, file.inode, end) for file, end in self.ends.items() if not file.forgotten]

    def events(self) -> list[Event]:
        """Made, where that has not been done. Raises ``InvalidJson``."""
        if len(self._events) != len(self._lines):
            make = self._reader.event
            self._events = [
                make(file, item, start) if isinstance(item, tuple) else cast("Event", item)
                for _, file, item, start, _ in self._lines
            ]
        return self._events

    async def read(self) -> list[RejectedLine]:
        """Make the events here instead; what cannot be one is no longer in the batch, but returned."""
        kept: list[Record] = []
        rejected = []
        for number, (key, file, item, start, end) in enumerate(self._lines, 1):
            if number % _READ_AT_ONCE == 0:
                await asyncio.sleep(0)  # others have their turn
            found = item
            if isinstance(item, tuple):
                found, _ = self._reader.item(file, item[0], start, clear=True, hidden=False)
            if isinstance(found, RejectedLine):
                rejected.append(found)
            else:
                kept.append((key, file, found, start, end))
        self._lines = kept
        return rejected

    def alone(self) -> list[Batch]:
        """Each event in a batch of its own that moves no offset; none is left here."""
        singles = []
        for line in self._lines:
            single = Batch(self._reader)
            single._lines = [line]
            singles.append(single)
        self._lines, self._events = [], []
        return singles

    def committed(self) -> None:
        """The files are read so far."""
        for file, end in self.ends.items():
            file.offset = max(file.offset, end)
        last = {file: event for (_, file, _, _, _), event in zip(self._lines, self._events, strict=True)}
        for file, event in last.items():
            file.line = max(file.line, line_number(event.id, file.stem))

    def refused(self, outcomes: Sequence[Appended]) -> list[RejectedLine]:
        """What the log has not taken for its content: an id that names another event."""
        return [
            RejectedLine(file.row, start, outcome.error.message, _text(event))
            for (_, file, _, start, _), event, outcome in zip(self._lines, self._events, outcomes, strict=True)
            if outcome.error is not None
        ]

    def give_up(self, reason: str) -> list[RejectedLine]:
        """All that is left of it, which has been read, as lines that are rejected."""
        lost = [
            RejectedLine(file.row, start, reason, _text(event))
            for (_, file, _, start, _), event in zip(self._lines, self.events(), strict=True)
        ]
        self._lines, self._events = [], []
        return lost


def _text(event: Event) -> bytes:
    """What is kept of an event that is not stored: perhaps because it cannot be written as JSON."""
    try:
        return event.json.encode()
    except (TypeError, ValueError, OverflowError):
        return f"{event.type} {event.id}".encode(errors="replace")

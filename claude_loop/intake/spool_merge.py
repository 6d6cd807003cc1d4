"""Reading many spool files as one sequence: by time across files, in each file's own order within it.

Without this, what a subshell emitted could be stored before what its parent emitted earlier, or a `story.completed`
before the `test.run` it rests on. The argument: a pass takes the time first (its horizon), then looks at the files.
Whoever emits B because of A takes B's time after A was written. If a pass releases B, then B's time, so A's writing,
came before the horizon: A was there to be read, and has an earlier time. Lines from the horizon on wait for the next
pass; the file goes no further until then.

A name may have several lives: a file that has left, and may have to be read again after a crash, and a younger one of
the same name. They are read one after the other in the same pass: a younger one that waited for the next would be
overtaken by what other files tell.

Files are opened late, when the merge comes to the time in their name, and read in pieces: a night's backlog of ten
thousand files costs memory for those that overlap.
"""

from __future__ import annotations

import heapq
import os
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from operator import itemgetter

import structlog

from claude_loop.clock import Clock
from claude_loop.intake.breath import Breath
from claude_loop.intake.rejected_lines import RejectedLine
from claude_loop.intake.spool_files import Place, SpoolFiles, Unreadable
from claude_loop.intake.spool_lines import MAX_LINE_BYTES, read_lines
from claude_loop.intake.spool_names import earliest_us
from claude_loop.intake.spool_reading import Found, Item, LineReader
from claude_loop.intake.spool_table import SpoolFile, SpoolTable

log = structlog.get_logger(__name__)

# Clocks that run ahead this far are waited for; a line from further ahead would wait too long, and is let through.
AHEAD_US = 2_000_000
# Bytes of lines held at one time, over all open files, and the bounds of one file's share.
HELD_BYTES = 4 * 1024 * 1024
LEAST_PIECE, LARGEST_PIECE = 1_024, 24_576
# Of a file whose lines take no more than a look.
LARGEST_PLAIN_PIECE = 49_152
# Records handed on at a time.
PORTION = 512

# (key in µs, the file, what the line is or None for blank ones, where it starts, where the next one starts)
Record = tuple[int, SpoolFile, Item | None, int, int]
_KEY = itemgetter(0)


class _Source:
    """One file during one pass."""

    __slots__ = ("file", "key", "limit", "name", "upto", "younger")

    def __init__(self, file: SpoolFile | None, name: str, younger: _Source | None = None) -> None:
        self.file = file
        self.name = name
        # The next life of the name: its turn comes when this one is read to its end.
        self.younger = younger
        # What is read next is not older than this.
        self.key = 0 if file is not None and file.offset else earliest_us(name)
        # Where to read on; -1 when there is nothing more in this pass.
        self.upto = 0
        # The size when it was first looked at: what is written later belongs to the next pass.
        self.limit = -1


class Merge:
    """One pass. Afterwards ``held_files`` have lines that wait, the first one until ``held_until``."""

    def __init__(
        self, files: SpoolFiles, table: SpoolTable, reader: LineReader, clock: Clock, breath: Breath, horizon_us: int
    ) -> None:
        self._files = files
        self._table = table
        self._reader = reader
        self._clock = clock
        self._breath = breath
        self._horizon = horizon_us
        # Files that may have more, by the time before which they have nothing more.
        self._sources: list[tuple[int, int, _Source]] = []
        self._open = 0
        # How far this pass has read files; what is committed of them follows in the same order.
        self._read_to: dict[SpoolFile, int] = {}
        # Read and not handed out: in order, and since then.
        self._sorted: list[Record] = []
        self._fresh: list[Record] = []
        self.held_until: int | None = None
        self.held_files: list[SpoolFile] = []
        # Older lives that must be read before the younger one of their name.
        self.behind: list[SpoolFile] = []
        self.unreadable: list[tuple[Place, str, str]] = []

    @property
    def waiting(self) -> int:
        """Files that are not read to their end."""
        return len(self._sources)

    async def records(self, names: Iterable[str], leaving: Iterable[SpoolFile]) -> AsyncIterator[list[Record]]:
        """The records of ``spool``'s files of these names and of these leaving files, merged, in portions."""
        sources = self._oldest_lives(names, leaving)
        heap = self._sources = [(source.key, order, source) for order, source in enumerate(sources)]
        heapq.heapify(heap)
        while heap:
            # The file that holds back all others is read on; then the next one does.
            _, order, source = heapq.heappop(heap)
            was_open = source.upto > 0
            self._fill(source)
            is_open = 0 <= source.upto < source.limit
            self._open += is_open - was_open
            if is_open:
                heapq.heappush(heap, (source.key, order, source))
            elif source.younger is not None:
                source.younger.key = max(source.younger.key, source.key)
                heapq.heappush(heap, (source.younger.key, order, source.younger))
            # Sorting what is left over again and again must not outweigh what is new.
            if len(self._fresh) >= max(PORTION, len(self._sorted)):
                for portion in self._ready(heap[0][0] if heap else None):
                    yield portion
            await self._breath.take()
        for portion in self._ready(None):
            yield portion

    def _oldest_lives(self, names: Iterable[str], leaving: Iterable[SpoolFile]) -> list[_Source]:
        """One source for each name, the oldest life of it that is to be read, with the younger ones behind it."""
        oldest = {name: _Source(self._table.spool.get(name), name) for name in sorted(names)}
        for file in sorted(leaving, key=lambda life: -life.generation):
            oldest[file.name] = _Source(file, file.name, oldest.get(file.name))
        return list(oldest.values())

    def _ready(self, before: int | None) -> Iterator[list[Record]]:
        """What no file that has more can precede, in portions."""
        merged = self._sorted + self._fresh
        self._fresh = []
        merged.sort(key=_KEY)  # stable: a file's own order stays
        end = len(merged) if before is None else bisect_right(merged, before, key=_KEY)
        self._sorted = merged[end:]
        for start in range(0, end, PORTION):
            yield merged[start : min(start + PORTION, end)]

    def _fill(self, source: _Source) -> None:
        """Read the next piece; a source that has nothing more for this pass ends with ``upto`` at ``limit`` or -1."""
        file = source.file
        place: Place = "spool" if file is None else file.place
        entry = source.name if file is None else file.entry
        first = source.limit < 0
        upto, source.upto = source.upto, -1
        try:
            with self._files.opened(place, entry) as (descriptor, status):
                if first:
                    file = source.file = self._look(source, status)
                    upto, source.limit = file.offset, status.st_size
                if file is None or file.inode != status.st_ino or (first and self._is_blocked(file)):
                    return
                self._read(source, file, descriptor, upto)
        except FileNotFoundError:
            if file is not None:
                self._table.forget(file)
        except Unreadable as reason:
            if file is not None:
                self._table.forget(file)
            self.unreadable.append((place, entry, str(reason)))

    def _look(self, source: _Source, status: os.stat_result) -> SpoolFile:
        file = source.file
        is_new = file is None
        if file is None or (file.place == "spool" and file.inode != status.st_ino):
            file = self._table.meet(source.name, status.st_ino, self._clock.now_us())
        size = status.st_size
        if size < file.offset:
            if file.place == "spool":
                file = self._table.renew(file, size, self._clock.now_us())
            else:
                file.offset = size
        if is_new or size != file.size:
            now = self._clock.monotonic()
            age = max(0.0, self._clock.now_us() / 1e6 - status.st_mtime) if is_new else 0.0
            file.changed, file.size, file.dead_since = now - age, size, None
        return file

    def _is_blocked(self, file: SpoolFile) -> bool:
        """Whether an older life of the name may still get lines, or has some that this pass has not read.

        When nobody has the older one open, an emitter that began a younger one is done with it: the younger need not
        wait until the older has left. Were it to, files of other names would overtake it.
        """
        for older in self._table.lives(file.name):
            if older is file:
                return False
            try:
                writers, size = self._files.writers(older.place, older.entry)
            except (FileNotFoundError, Unreadable):
                continue
            if writers == "none" and size <= max(older.offset, self._read_to.get(older, 0)):
                continue
            if size > max(older.offset, older.rest_at):
                self.behind.append(older)
            self.held_files.append(file)
            return True
        return False

    def _read(self, source: _Source, file: SpoolFile, descriptor: int, upto: int) -> None:
        largest = LARGEST_PLAIN_PIECE if file.plain else LARGEST_PIECE
        piece = min(max(HELD_BYTES // (self._open + 1), LEAST_PIECE), largest)
        lines, next_, too_long = read_lines(
            lambda offset, length: os.pread(descriptor, length, offset), upto, source.limit, piece, final=file.sealed
        )
        records = self._fresh
        count = len(records)
        if not self._add(source, file, lines):
            return
        key = source.key
        if too_long is not None:
            start, end, begin = too_long
            reason = f"The line has more than {MAX_LINE_BYTES} bytes."
            records.append((key, file, RejectedLine(file.row, start, reason, begin), start, end))
        if next_ == upto:
            file.rest_at = source.limit
            return
        self._read_to[file] = next_
        # Blank lines after the last record are passed with it, or by a record of nothing.
        if len(records) > count:
            last = records[-1]
            records[-1] = (*last[:4], next_)
            file.plain = isinstance(last[2], tuple)  # as `PlainLine` is, and nothing else
        else:
            records.append((key, file, None, upto, next_))
        source.upto = next_

    def _add(self, source: _Source, file: SpoolFile, lines: Sequence[tuple[int, int, bytes]]) -> bool:
        """Add the records of these lines. False if one of them waits for its time, and so does what is behind it."""
        if not lines:
            return True
        starts, ends, texts = zip(*lines, strict=True)
        times = self._reader.times_us(file, texts)
        if times is None:
            return self._add_each(source, file, self._reader.items(file, lines))
        plain = zip(texts, times, strict=True)
        if max(times) >= self._horizon:
            return self._add_each(source, file, zip(plain, times, starts, ends, strict=True))
        # A clock that has gone back does not bring a line before what stands in front of it.
        _, *keys = accumulate(times, max, initial=source.key)
        self._fresh.extend(zip(keys, repeat(file), plain, starts, ends))
        source.key = keys[-1]
        return True

    def _add_each(self, source: _Source, file: SpoolFile, found: Iterable[Found]) -> bool:
        """Likewise, one by one: here a line may have no time, or have to wait for it."""
        key = source.key
        horizon, latest = self._horizon, self._horizon + AHEAD_US
        for item, at_us, start, end in found:
            if at_us is None:
                if not isinstance(item, RejectedLine):  # no time of its own: after all that has one
                    key = max(key, horizon - 1)
            elif horizon <= at_us <= latest:
                self.held_files.append(file)
                self.held_until = at_us if self.held_until is None else min(self.held_until, at_us)
                return False
            else:
                key = max(key, min(at_us, horizon))
            self._fresh.append((key, file, item, start, end))
        source.key = key
        return True

"""The copy of what the command prints, in segments. Whatever fails here is noted, and disturbs nobody."""

from __future__ import annotations

import errno
import os
import time

from claude_loop.run_files import MOST_SEGMENTS, SEGMENT_BYTES, segment_name, segment_number
from claude_loop.wrapper.times import Times

_RETRY_SECONDS = 1.0
# To write each line of a busy command by itself costs half as much as to read and show it. So a line waits for the next
# ones, this long for each of them, and for so many.
HOLD_MILLISECONDS = 50
_MOST_HELD = 8
_LONG = 1024


class Tee:
    """Appends to ``directory/output.NNNNNN``, and notes when it came."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._number = 1
        self._descriptor = -1
        self._room = 0
        self._retry_at = 0.0
        self._lost = 0
        self._reason = ""
        # How many pieces ``flush`` would write.
        self.held = 0
        self._pieces: list[bytes] = []
        self._came: list[int] = []
        self._times = Times(directory)

    def keep(self, data: bytes) -> None:
        """Write it, soon. Whoever calls this calls ``flush`` when nothing has come for ``HOLD_MILLISECONDS``."""
        self._pieces.append(data)
        self._came.append(time.time_ns())
        self.held += 1
        if self.held >= _MOST_HELD or len(data) >= _LONG:
            self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        pieces, came = self._pieces, self._came
        self._pieces, self._came, self.held = [], [], 0
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._descriptor < 0 and not self._reopen():
            self._lost += len(data)
            return
        # First, so that whoever reads the output finds its time.
        self._times.note(self._number * SEGMENT_BYTES - self._room, pieces, came)
        self._lost += self._put(data)

    @property
    def lost(self) -> int:
        """Bytes that could not be kept since the last that could."""
        return self._lost

    def _put(self, data: bytes) -> int:
        """How many bytes of it could not be written."""
        left = len(data)
        while left:
            try:
                if self._room == 0:
                    self._rotate()
                fits = left == len(data) and left <= self._room  # nearly always
                count = os.write(self._descriptor, data if fits else data[-left:][: self._room])
            except OSError as failure:
                self._give_up(failure)
                return left
            self._room -= count
            left -= count
        return 0

    def close(self) -> None:
        self.flush()
        self._let_go()
        self._times.close()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reopen(self) -> bool:
        """Go on where it failed, at most once a second, beginning with a note of what is missing."""
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + _RETRY_SECONDS
        try:
            self._open()
        except OSError as failure:
            self._give_up(failure)
            return False
        if self._lost:
            note = f"\n[claude-loop: {self._lost} bytes of output were not kept: {self._reason}]\n"
            if self._put(note.encode()):
                return False
            self._lost = 0
        return True

    def _open(self) -> None:
        path = f"{self._directory}/{segment_name(self._number)}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._room = SEGMENT_BYTES - os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        if sum(segment_number(name) is not None for name in os.listdir(self._directory)) >= MOST_SEGMENTS:
            raise OSError(errno.EDQUOT, "too much of it waits for the daemon")
        self._let_go()
        self._number += 1
        self._open()

    def _give_up(self, failure: OSError) -> None:
        self._reason = failure.strerror or "unknown"
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        try:
            self._let_go()
        except OSError:  # the disk may refuse even that; the descriptor is gone all the same
            self._descriptor = -1

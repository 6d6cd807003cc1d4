"""When each piece of the output came, for a daemon that reads it later. It is worth a try, and no more."""

from __future__ import annotations

import os

from claude_loop.run_files import CAME, SEGMENT_BYTES, times_name

# A command that prints single letters all day: of the rest of such a segment no times are known.
_MOST = 256 * 1024


class Times:
    """Appends to ``directory/times.NNNNNN``, a record for each millisecond in which something came."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._number = 0
        self._descriptor = -1
        self._left = 0
        self._last = 0

    def note(self, position: int, pieces: list[bytes], came: list[int]) -> None:
        """The pieces that are written next, to ``position``, came then (nanoseconds since the epoch)."""
        number = position // SEGMENT_BYTES + 1
        if number != self._number:
            self._begin(number)
        if self._descriptor < 0:
            return
        records = []
        for piece, moment in zip(pieces, came, strict=True):
            if moment // 1_000_000 != self._last:
                self._last = moment // 1_000_000
                records.append(CAME.pack(position, self._last))
            position += len(piece)
        if records:
            self._append(records)

    def _begin(self, number: int) -> None:
        self.close()
        self._number, self._left, self._last = number, _MOST, 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(f"{self._directory}/{times_name(number)}", flags, 0o600)
        except OSError:  # it is tried again with the next segment
            return

    def _append(self, records: list[bytes]) -> None:
        data = b"".join(records)
        self._left -= len(records)
        try:
            whole = os.write(self._descriptor, data) == len(data)
        except OSError:
            whole = False
        if not whole or self._left <= 0:
            self.close()  # behind half a record nothing could be read

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)
            except OSError:  # the disk may refuse even that; the descriptor is gone all the same
                return

"""When several lines may be shown together.

A busy command that prints a line now and then is held up less by the copying of the line than by what it then finds
gone from the caches. So lines that have come steadily for a while are looked for at the pace of a screen: never what
may answer a key, never lines after a silence, and never much at once, which would hold up the command.
"""

from __future__ import annotations

import time

# No eye sees this. A command that prints more in it than its terminal holds waits for the rest of it, once.
STEP_MILLISECONDS = 20
# A line often comes in two or three pieces, its end by itself.
_PIECES = 8
# Faster ones than these wait in no step: the terminal would be full before its end.
_LEAST_SECONDS = 0.0015 * _PIECES
# So many times one after the other: bursts of lines with silence between them are not steady.
_TIMES = 4
_QUICK_SECONDS = 1.0


class Pace:
    """Told of each short piece by ``piece``, of longer ones by ``break_off``."""

    def __init__(self) -> None:
        self._left, self._slow, self._begun = _PIECES, 0, time.monotonic()
        self._quick_until = 0.0

    def piece(self) -> bool:
        """Whether to go on in steps now. The clock is asked at one of ``_PIECES`` only."""
        self._left -= 1
        if self._left:
            return False
        now, begun = time.monotonic(), self._begun
        self._left, self._begun = _PIECES, now
        self._slow = self._slow + 1 if now - begun >= _LEAST_SECONDS else 0
        return self._slow >= _TIMES and now >= self._quick_until

    def break_off(self) -> None:
        self._left, self._slow, self._begun = _PIECES, 0, time.monotonic()

    def key(self) -> None:
        """A person is there: what comes now is shown at once."""
        self._quick_until = time.monotonic() + _QUICK_SECONDS

"""Somebody in our process group to ask whether a signal was for the whole group, the command included, or for us alone.

No signal says that of itself, nor does its sender tell: a script that shares our group may mean either. So a process
stands by that holds all signals back, and what is pending there was sent to the group.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time

from claude_loop.wrapper.child import let_go
from claude_loop.wrapper.signals import HEARD

# The kernel tells the members of a group one after the other: we may hear of a signal before the witness.
_LOOK_SECONDS = 0.005
# It answers in microseconds; a machine that is that busy must not keep a signal from the command.
_ANSWER_SECONDS = 0.2
# What is pending for longer belongs to a signal that we have heard together with another of its kind.
_FRESH_SECONDS = 0.1
_MASK = struct.Struct("=Q")


class Witness:
    """Forked with the signals blocked, before anything listens to them. It ends with us."""

    def __init__(self) -> None:
        asked, self._ask = os.pipe()
        self._told, telling = os.pipe()
        self._seen: dict[int, float] = {}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                let_go(asked, telling)
                _stand_by(asked, telling)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(telling)

    def saw(self, number: int) -> bool:
        """Whether the signal that we have just heard was for the whole group."""
        saw = self._look(number)
        if not saw:
            time.sleep(_LOOK_SECONDS)
            saw = self._look(number)
        self._seen.pop(number, None)
        return saw

    def _look(self, number: int) -> bool:
        now = time.monotonic()
        pending = self._pending()
        self._seen.update((int(each), now) for each in HEARD if pending >> each & 1)
        return now - self._seen.get(number, float("-inf")) < _FRESH_SECONDS

    def _pending(self) -> int:
        """The signals that came since the last time, as bits. None where it does not answer."""
        try:
            os.write(self._ask, b"?")
        except BrokenPipeError:  # somebody has killed it
            return 0
        if not select.select([self._told], [], [], _ANSWER_SECONDS)[0]:
            return 0
        answer = os.read(self._told, _MASK.size)
        return _MASK.unpack(answer)[0] if len(answer) == _MASK.size else 0


def _stand_by(asked: int, telling: int) -> None:
    while os.read(asked, 1):
        pending = 0
        while (info := signal.sigtimedwait(HEARD, 0)) is not None:
            pending |= 1 << info.si_signo
        os.write(telling, _MASK.pack(pending))

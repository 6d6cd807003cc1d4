"""Somebody in our process group to see whether a signal was for the whole group, the command included, or for us alone.

No signal says that of itself, nor does its sender tell: a script that shares our group may mean either. So a `cat`
stands by that holds all signals back: what Linux calls pending there was sent to the group, or to it. It is no fork of
ours, because whoever looks for us by name or arguments would find that too. Where we cannot know, a signal was for us
alone: better the command gets it twice than never.
"""

from __future__ import annotations

import os
import signal
import time

from claude_loop.wrapper.signals import HEARD

# The kernel tells the members of a group one after the other: we may hear of a signal before the witness has it.
_LOOK_SECONDS = 0.001
# What was pending for longer belongs to a signal that we have heard together with another of its kind.
_FRESH_SECONDS = 0.1


class Witness:
    """Stands by until ``dismiss``, or until we are gone."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._pid: int | None = None
        self._hold = -1
        self._call()

    def _call(self) -> None:
        nothing = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
        end, self._hold = os.pipe()  # it reads from us, and ends when nobody can write there any more
        try:
            self._pid = os.posix_spawnp(
                "cat",
                ["cat"],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, end, 0), nothing, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setsigmask=HEARD,
            )
        except OSError:  # no room for one more process, or no `cat`
            os.close(self._hold)
        finally:
            os.close(end)

    def dismiss(self) -> None:
        if self._pid is not None:
            os.close(self._hold)
            # It may be stopped. Until it is reaped nobody else has its number.
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None

    def saw(self, number: int) -> bool:
        """Whether the signal that we have just heard was for the whole group."""
        saw = self._look(number)
        if not saw:
            time.sleep(_LOOK_SECONDS)
            saw = self._look(number)
        self._seen.pop(number, None)
        return saw

    def _look(self, number: int) -> bool:
        now, pending = time.monotonic(), self._pending()
        if pending:
            self._seen.update((int(each), now) for each in HEARD if pending >> (each - 1) & 1)
            self.dismiss()  # what is pending there would stay
            self._call()
        return now - self._seen.get(number, float("-inf")) < _FRESH_SECONDS

    def _pending(self) -> int:
        """The signals that are pending there, as proc(5) shows them: bit 0 for signal 1."""
        try:
            with open(f"/proc/{self._pid}/status", "rb") as file:
                return next((int(line[7:], 16) for line in file if line.startswith(b"ShdPnd:")), 0)
        except OSError:
            return 0

"""Running the command with its input or output redirected: in our own process group, its input untouched.

Every output that was a terminal stays one, and two that were the same file stay the same, so that their order holds.
"""

from __future__ import annotations

import os
import select
import signal
import termios

from claude_loop.wrapper.child import become, hang_up_with
from claude_loop.wrapper.outer import set_size, size_of
from claude_loop.wrapper.signals import Heard, Signals, stop_here
from claude_loop.wrapper.streams import Stream, drain
from claude_loop.wrapper.tee import HOLD_MILLISECONDS, Tee
from claude_loop.wrapper.witness import Witness

# What the terminal sends reaches the command too: it is in the same process group.
_FROM_TERMINAL = frozenset(
    {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP}
)
_PIPE_BYTES = 1024 * 1024
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ


class PipedCommand:
    """The command, from its start to its wait status."""

    def __init__(self, command: list[str], signals: Signals, tee: Tee) -> None:
        self._signals = signals
        self._tee = tee
        self.streams: list[Stream] = []
        self.status: int | None = None
        outputs = self._outputs()
        us = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            for number, descriptor in outputs.items():
                os.dup2(descriptor, number, inheritable=True)
            hang_up_with(us)
            become(command, signals)
        for descriptor in set(outputs.values()):
            os.close(descriptor)
        # After the command: what is sent to the group meanwhile, the command has alone, and is given again.
        self._witness = Witness()
        signals.listen()

    def _outputs(self) -> dict[int, int]:
        """For stdout and stderr the descriptor that the command gets. One that is closed stays closed."""
        outputs: dict[int, int] = {}
        made: dict[tuple[int, int, int], int] = {}
        for number in (1, 2):
            try:
                status = os.fstat(number)
            except OSError:
                continue
            same = (status.st_dev, status.st_ino, status.st_rdev)
            if same not in made:
                made[same] = self._output(number)
            outputs[number] = made[same]
        return outputs

    def _output(self, number: int) -> int:
        if not os.isatty(number):
            source, end = os.pipe()
            _widen(end)
            self.streams.append(Stream(source, number, terminal=False))
            return end
        master, slave = os.openpty()
        settings = termios.tcgetattr(slave)
        settings[1] &= ~termios.OPOST  # the outer one does that
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        set_size(slave, size_of(number))
        self.streams.append(Stream(master, number, terminal=True))
        return slave

    def run(self) -> int:
        """The command's wait status. What it printed has been copied."""
        poll, polled = select.poll(), -1
        while self.status is None:
            if polled != (polled := sum(stream.open for stream in self.streams)):
                poll = self._new_poll()
            ready = dict(poll.poll(HOLD_MILLISECONDS if self._tee.held else None))
            if not ready:
                self._tee.flush()
            for stream in self.streams:
                if stream.open and stream.source in ready:
                    stream.copy(self._tee)
            if self._signals.descriptor in ready:
                for heard in self._signals.take():
                    self._hear(heard)
        self._witness.dismiss()
        drain(self.streams, self._tee)
        return self.status

    def _new_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.descriptor, select.POLLIN)
        for stream in self.streams:
            if stream.open:
                poll.register(stream.source, select.POLLIN)
        return poll

    def leave(self) -> None:
        """There is nothing that would end with us."""

    def _hear(self, heard: Heard) -> None:
        if heard.number == signal.SIGCHLD:
            self._look()
        elif heard.number == signal.SIGWINCH:
            for stream in self.streams:
                if stream.open and stream.terminal and stream.target is not None:
                    set_size(stream.source, size_of(stream.target))
            self._send(heard.number)  # it may have asked for the size before we passed it on
        elif heard.number == signal.SIGCONT or not self._has_it(heard):
            self._send(heard.number)

    def _has_it(self, heard: Heard) -> bool:
        """Whether the command got the signal itself: from the terminal, or with the whole group."""
        was_for_all = self._witness.saw(heard.number)
        return heard.number in _FROM_TERMINAL if heard.sender == 0 else was_for_all

    def _look(self) -> None:
        if self.status is not None:
            return  # it was another child
        pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return
        if not os.WIFSTOPPED(status):
            self.status = status
            return
        self._tee.flush()
        stop_here(os.WSTOPSIG(status))
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        if self.status is None:
            os.kill(self._pid, number)  # not reaped yet, so nobody else has its number


def _widen(pipe: int) -> None:
    """A roomy pipe, where the system has such: the command is held up less often."""
    import fcntl  # noqa: PLC0415 - for this one call

    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)
    except OSError:
        return

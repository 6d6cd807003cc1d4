"""Running the command in a terminal of its own, inside the one we were started in."""

from __future__ import annotations

import errno
import os
import select
import signal
import termios

from claude_loop.wrapper import monitor
from claude_loop.wrapper.outer import OuterTerminal, set_size, signals_of_keys
from claude_loop.wrapper.pace import STEP_MILLISECONDS, Pace
from claude_loop.wrapper.signals import Heard, Signals, stop_group, stop_here
from claude_loop.wrapper.streams import SHORT_READ, Stream, drain
from claude_loop.wrapper.tee import HOLD_MILLISECONDS, Tee

# In the background nobody tells us when the shell brings us to the front: we look.
_LOOK_MILLISECONDS = 200
_KEYS_BYTES = 4096
_NEVER = [(-1, 0)]
# More than that is typed ahead by no one; what is pasted waits in the outer terminal.
_MOST_TYPED_AHEAD = 64 * 1024


class TerminalSession:
    """The command's session, from its start to its wait status."""

    def __init__(self, command: list[str], signals: Signals, tee: Tee) -> None:
        self._signals = signals
        self._tee = tee
        self._outer = OuterTerminal(0)
        self._typed = b""
        self._hears_keys = True
        self._pid = 0
        self._pace = Pace()
        self._poll = select.poll()
        self._polled_for: list[bool] = []
        # What the poll tells when the command has printed something and nothing else has happened.
        self._usual = _NEVER
        self._patience: int | None = None
        self.status: int | None = None
        self._begin(command)

    def _begin(self, command: list[str]) -> None:
        self._master, slave = os.openpty()
        termios.tcsetattr(slave, termios.TCSANOW, self._outer.settings)
        set_size(slave, self._outer.size())
        self.streams = [Stream(self._master, 1, terminal=True)]
        standard = [slave, slave, slave]
        if not os.isatty(2):
            source, standard[2] = os.pipe()
            self.streams.append(Stream(source, 2, terminal=False))
        # Raw before the command runs: what is typed now is for it.
        self._come_to_front()
        self._monitored = monitor.start(command, slave, (slave, slave, standard[2]), self._signals)
        for descriptor in set(standard):
            os.close(descriptor)
        self._signals.listen()

    def run(self) -> int:
        """The command's wait status. What it printed has been copied, and the outer terminal is as it was before."""
        try:
            status = self._run()
            drain(self.streams, self._tee)  # before the outer terminal makes line ends of its own
        finally:
            self._give_back()
        return status

    def _run(self) -> int:
        printing, tee, pace = self.streams[0], self._tee, self._pace
        while self.status is None:
            self._prepare()
            poll, usual, patience = self._poll.poll, self._usual, self._patience
            # A busy command is held up by what it finds gone from the caches when it goes on after a line: for a line
            # nothing is looked at that is not needed.
            while (ready := poll(HOLD_MILLISECONDS if tee.held else patience)) == usual:
                if printing.copy(tee) >= SHORT_READ:
                    pace.break_off()
                elif pace.piece() and not self._typed:
                    self._go_in_steps(printing)
                if not printing.open:
                    break
            self._turn(dict(ready))
        return self.status

    def _go_in_steps(self, printing: Stream) -> None:
        """As long as nothing else happens and it goes on steadily."""
        self._poll.modify(self._master, 0)
        size = 1
        while 0 < size < SHORT_READ and not self._poll.poll(STEP_MILLISECONDS):
            size = printing.copy(self._tee)
        if size >= SHORT_READ:
            self._pace.break_off()
        self._poll.modify(self._master, select.POLLIN)

    def _turn(self, ready: dict[int, int]) -> None:
        if not ready:
            self._tee.flush()
        if self._signals.descriptor in ready:
            for heard in self._signals.take():
                self._hear(heard)
        if 0 in ready and self._in_front:
            self._read_keys()
        if self._typed:
            self._pass_on_keys()
        for stream in self.streams:
            if stream.open and ready.get(stream.source, 0) & ~select.POLLOUT:
                stream.copy(self._tee)
        if self._monitored.reports in ready:
            self._read_reports()

    def _prepare(self) -> None:
        """To wait for what may happen next."""
        if not self._in_front:
            self._come_to_front()
        takes_keys = self._in_front and self._hears_keys and len(self._typed) < _MOST_TYPED_AHEAD
        wanted = [takes_keys, self._typed != b"", *[stream.open for stream in self.streams]]
        if wanted != self._polled_for:  # the same as the last time, nearly always
            self._poll, self._polled_for = self._new_poll(takes_keys=takes_keys), wanted
        self._patience = None if self._in_front else _LOOK_MILLISECONDS
        self._usual = [(self._master, select.POLLIN)] if self._in_front else _NEVER

    def _new_poll(self, *, takes_keys: bool) -> select.poll:
        poll = select.poll()
        for descriptor in (self._signals.descriptor, self._monitored.reports, *([0] if takes_keys else [])):
            poll.register(descriptor, select.POLLIN)
        for stream in self.streams:
            if stream.open:
                wants_room = stream.source == self._master and bool(self._typed)
                poll.register(stream.source, select.POLLIN | (select.POLLOUT if wants_room else 0))
        return poll

    # -- keys --------------------------------------------------------------------------------------------------------

    def _read_keys(self) -> None:
        if not self._outer.in_foreground():  # a read would give us an error that looks like the terminal's end
            self._outer.is_raw = False
            self._come_to_front()
            return
        try:
            keys = os.read(0, _KEYS_BYTES)
        except OSError as failure:
            if failure.errno not in {errno.EIO, errno.EAGAIN}:
                raise
            keys = b""
        if not keys:
            self._hears_keys = False
            return
        number = signals_of_keys(self._master, keys) if self.streams[0].open else None
        if number is not None:
            # Whoever shares our process group, such as the script that started us, would have got it as well.
            os.killpg(os.getpgrp(), number)
        self._pace.key()
        self._typed += keys

    def _pass_on_keys(self) -> None:
        if not self.streams[0].open:
            self._typed = b""
            return
        try:
            self._typed = self._typed[os.write(self._master, self._typed) :]
        except BlockingIOError:
            return
        except OSError as failure:
            if failure.errno != errno.EIO:
                raise
            self._typed = b""

    # -- the command -------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Let the session end, without hanging up what the command left running in it."""
        os.close(self._monitored.hold)
        while os.read(self._monitored.reports, monitor.WORD_BYTES):
            continue

    def _read_reports(self) -> None:
        said = os.read(self._monitored.reports, monitor.WORD_BYTES * 16)
        if not said:  # somebody has killed the monitor; the kernel has hung up the command
            self.status = os.waitpid(self._monitored.pid, 0)[1]
        for kind, value in monitor.reports_in(said):
            if kind == monitor.PID:
                self._pid = value
            elif os.WIFSTOPPED(value):
                self._stop(os.WSTOPSIG(value))
            else:
                self.status = value

    def _stop(self, number: int) -> None:
        """Stop as the command has, until the shell continues us."""
        drain(self.streams, self._tee)
        self._tee.flush()
        self._give_back()
        if number == signal.SIGTSTP:
            # The whole group, as its terminal would have: a script that started us waits for us, and its shell for it.
            stop_group()
        else:
            stop_here(number)
        self._go_on()

    def _go_on(self) -> None:
        self._come_to_front()
        self._resize()
        self._send(signal.SIGCONT)

    def _come_to_front(self) -> None:
        self._in_front = self._outer.take()
        self.streams[0].leaves_line_ends = not self._in_front

    def _give_back(self) -> None:
        self._outer.restore()
        self.streams[0].leaves_line_ends = True

    def _resize(self) -> None:
        if self.streams[0].open:
            set_size(self._master, self._outer.size())

    def _hear(self, heard: Heard) -> None:
        if heard.number == signal.SIGWINCH:
            self._resize()
        elif heard.number == signal.SIGCONT:
            self._go_on()
        elif heard.number == signal.SIGCHLD or heard.sender == os.getpid():
            return  # the monitor reports; and what we sent our own group is not for the command
        elif heard.number not in {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU} or heard.sender:
            self._send(heard.number)

    def _send(self, number: int) -> None:
        if self._pid:
            try:
                os.killpg(self._pid, number)
            except ProcessLookupError:
                return  # it has just ended

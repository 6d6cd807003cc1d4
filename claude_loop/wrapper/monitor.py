"""The leader of the command's session in its own terminal.

A command that led the session itself could not be stopped with Ctrl-Z: its process group would have no parent in the
session, and the kernel drops the signal for such groups. So a process stands between that does nothing but wait.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import termios
from typing import NamedTuple, NoReturn

from claude_loop.wrapper.child import become
from claude_loop.wrapper.signals import Signals

# What the monitor says: the command's pid, or a wait status.
PID, STATUS = b"p", b"s"
_WORD = struct.Struct("=ci")
WORD_BYTES = _WORD.size
_MOST_DESCRIPTORS = 2**20


class Monitored(NamedTuple):
    """``reports`` are read from, ``hold`` is kept open for as long as the session is to last."""

    pid: int
    reports: int
    hold: int


def start(command: list[str], slave: int, standard: tuple[int, int, int], signals: Signals) -> Monitored:
    """Run ``command`` on the terminal ``slave``, with ``standard`` as its three descriptors."""
    reports, reporting = os.pipe()
    holding, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reports)
        os.close(hold)
        try:
            _monitor(command, slave, standard, signals, reporting, holding)
        finally:
            os._exit(1)
    os.close(reporting)
    os.close(holding)
    return Monitored(pid, reports, hold)


def reports_in(data: bytes) -> list[tuple[bytes, int]]:
    """The complete words at the beginning of ``data``; each has ``WORD_BYTES``."""
    whole = len(data) - len(data) % WORD_BYTES
    return [(kind, value) for kind, value in _WORD.iter_unpack(data[:whole])]


def _monitor(
    command: list[str], slave: int, standard: tuple[int, int, int], signals: Signals, reporting: int, holding: int
) -> NoReturn:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    # The end of the terminal ends us, and the kernel then tells the command's process group.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(slave, os.getpid())
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number, inheritable=True)
        become(command, signals)
    _let_go(reporting, holding)
    os.write(reporting, _WORD.pack(PID, pid))
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        os.write(reporting, _WORD.pack(STATUS, status))
    os.write(reporting, _WORD.pack(STATUS, status))
    os.read(holding, 1)  # until the wrapper has copied everything, also of what runs on in the background
    _leave_quietly()
    os._exit(0)


def _let_go(*kept: int) -> None:
    """Of all descriptors but those: whether the terminal is in use is asked of the kernel, and we do not use it."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    first = 3
    for descriptor in (*sorted(kept), _MOST_DESCRIPTORS):
        os.closerange(first, descriptor)
        first = descriptor + 1


def _leave_quietly() -> None:
    """The kernel hangs up the foreground group when a session's leader ends. Make that ourselves: what the command
    left running in the background was not hung up without us either."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        os.tcsetpgrp(terminal, os.getpgrp())
        os.close(terminal)
    except OSError as failure:
        if failure.errno not in {errno.ENXIO, errno.EIO, errno.ENOTTY}:  # it is gone already
            raise

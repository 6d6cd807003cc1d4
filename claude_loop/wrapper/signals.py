"""Signals as messages. They are blocked everywhere and taken by a thread that does nothing else: unlike a handler it
learns who sent them, and the terminal's must be told from a person's."""

from __future__ import annotations

import _thread
import os
import signal
from typing import NamedTuple

HEARD = frozenset(
    {
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
        signal.SIGWINCH,
        signal.SIGCHLD,
    }
)
# What the interpreter ignores for its own sake must not be ignored by the command.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Heard(NamedTuple):
    number: int
    sender: int  # pid; 0 for the kernel, -1 for a process that our pid namespace does not show


class Signals:
    """``descriptor`` becomes readable when there is something to ``take``."""

    def __init__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        self.descriptor, self._wake = os.pipe()
        os.set_blocking(self.descriptor, False)
        self._heard: list[Heard] = []

    def listen(self) -> None:
        """Begin. Not before the forks: a child would have the thread's locks without the thread."""
        _thread.start_new_thread(self._listen, ())

    def _listen(self) -> None:
        while True:
            info = signal.sigwaitinfo(HEARD)
            self._heard.append(Heard(info.si_signo, (info.si_pid or -1) if info.si_code <= 0 else 0))
            os.write(self._wake, b".")

    def take(self) -> list[Heard]:
        try:
            os.read(self.descriptor, 4096)
        except BlockingIOError:
            return []
        heard, self._heard = self._heard, []
        return heard

    def give_back(self) -> None:
        """In the child that becomes the command: everything as it was before us."""
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def stop_here(number: int) -> None:
    """Stop as the command was stopped. Returns when continued; at once where nobody could continue us."""
    if number == signal.SIGSTOP:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    # To this thread alone: the one that listens would take it otherwise. In a process group without a shell that
    # could continue it the kernel drops the signal, as it would have dropped the command's.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_kill(_thread.get_ident(), number)
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def stop_group() -> None:
    """Stop our whole process group with SIGTSTP, ourselves in the same step: a shell that sees the others stopped may
    continue the group at once, and whoever stopped later would stay so."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
    os.killpg(os.getpgrp(), signal.SIGTSTP)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})


def die_of(number: int) -> None:
    """End by this signal. Returns if it does not end a process."""
    import resource  # noqa: PLC0415 - at the end of a few runs only

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has left its own
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_kill(_thread.get_ident(), number)

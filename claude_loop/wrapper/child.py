"""Becoming the command, and what became of it."""

from __future__ import annotations

import errno
import os
import signal
from typing import NoReturn

from claude_loop.wrapper.signals import Signals

NOT_EXECUTABLE, NOT_FOUND = 126, 127
_PR_SET_PDEATHSIG = 1


def become(command: list[str], signals: Signals) -> NoReturn:
    """Execute the command; if that cannot be, say why and end as a shell would."""
    signals.give_back()
    try:
        execute(command[0], command)
    except OSError as failure:
        os.write(2, f"claude-loop: {command[0]}: {failure.strerror}\n".encode(errors="surrogateescape"))
        os._exit(NOT_FOUND if isinstance(failure, FileNotFoundError) else NOT_EXECUTABLE)


def execute(program: str, arguments: list[str]) -> NoReturn:
    """As a shell does: a script that does not say what runs it is run by bash. Raises ``OSError``."""
    try:
        os.execvp(program, arguments)  # noqa: S606 - what we were asked to run
    except OSError as failure:
        if failure.errno != errno.ENOEXEC:
            raise
    os.execvp("bash", ["bash", program, *arguments[1:]])  # noqa: S606, S607 - the one that is on the user's PATH


def hang_up_with(parent: int) -> None:
    """In a child: get SIGHUP when ``parent`` dies. Where the system has no such thing, nothing happens."""
    import ctypes  # noqa: PLC0415 - in the child alone, which is about to be replaced

    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP))
    except (AttributeError, OSError):
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGHUP)


def exit_code(status: int) -> int:
    """A wait status as a shell shows it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

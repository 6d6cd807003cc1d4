"""What `claude-loop run` does once everything heavy is gone from memory."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from claude_loop.wrapper.child import exit_code
from claude_loop.wrapper.pipes import PipedCommand
from claude_loop.wrapper.signals import Signals, die_of
from claude_loop.wrapper.streams import outlast
from claude_loop.wrapper.tee import Tee
from claude_loop.wrapper.terminal import TerminalSession


def main(directory: str, command: list[str]) -> NoReturn:
    """Run ``command``, keep what it prints in ``directory``, and end as it ends."""
    begun = time.monotonic()
    _occupy_standard_descriptors()
    signals, tee = Signals(), Tee(directory)
    in_terminal = os.isatty(0) and os.isatty(1)
    running = (TerminalSession if in_terminal else PipedCommand)(command, signals, tee)
    status = running.run()
    tee.close()
    if not any(stream.open for stream in running.streams):
        running.leave()
    elif os.fork() == 0:
        # The command has left something running that still prints. Whoever waits for the command must not wait for it.
        outlast(running.streams)
        running.leave()
        os._exit(0)
    _report(directory, status, round((time.monotonic() - begun) * 1000), tee.lost)
    _end_like(status)


def _occupy_standard_descriptors() -> None:
    """One that is closed would become the number of our next pipe."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _report(directory: str, status: int, duration_ms: int, lost: int) -> None:
    from claude_loop.wrapper.ending import report  # noqa: PLC0415 - it needs more than everything before

    report(directory, status, duration_ms, lost)


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        die_of(os.WTERMSIG(status))
    os._exit(exit_code(status))

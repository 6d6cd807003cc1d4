"""`claude-loop lock NAME -- CMD` and `claude-loop locks`: one command at a time under one name."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from claude_loop.cli.terminal import local_time
from claude_loop.errors import LockError
from claude_loop.lock_files import shown
from claude_loop.session_lock import LockInfo, SessionLock, cleanup_stale_locks, list_locks

NOT_HAD = 75  # EX_TEMPFAIL of sysexits.h: trying again later makes sense
NOT_FOUND, NOT_EXECUTABLE, SIGNALLED = 127, 126, 128  # what a shell answers
FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
TYPED = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})  # those a terminal sends by itself
OUT_OF_THE_WAY = 100  # scripts use small descriptor numbers by hand, and may have closed 0 to 2


@click.command()
@click.argument("name")
@click.option(
    "--timeout",
    type=float,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the lock; inf waits for ever.",
)
@click.option("--no-wait", is_flag=True, help="Give up at once when the lock is held.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def lock(name: str, timeout: float, no_wait: bool, command: tuple[str, ...]) -> None:  # noqa: FBT001 - click's way
    """Run CMD while holding the lock NAME.

    The status is CMD's own, 128+n if signal n ended it, 127 if it was not found, 126 if it cannot be
    executed, and 75 if the lock was not had: then CMD has not run.
    """
    if not name:
        raise click.UsageError("NAME is empty (an unset variable?).")
    if not command[0]:
        raise click.UsageError("CMD is empty (an unset variable?).")
    if math.isnan(timeout):
        raise click.BadParameter("not a number of seconds.", param_hint="--timeout")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while waiting ends us as it would end `sleep`
    held = SessionLock(name, 0 if no_wait else timeout)
    try:
        held.acquire()
    except LockError as failure:
        click.echo(f"claude-loop lock: {failure.message}", err=True)
        sys.exit(NOT_HAD)
    try:
        status = _run(command, held.fileno())
    finally:
        held.release()
    sys.exit(status)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
@click.pass_context
def locks(context: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List the locks of this directory (or of CLAUDE_LOOP_LOCKS_DIR)."""
    if context.invoked_subcommand is not None:
        return
    try:
        found = list_locks()
    except LockError as failure:
        raise click.ClickException(failure.message) from failure
    if as_json:
        click.echo(json.dumps([_as_dict(info) for info in found]))
    elif found:
        click.echo("\n".join(_table(found)))
    else:
        click.echo(f"no locks in {shown(str(SessionLock.LOCKS_DIR))}", err=True)


@locks.command()
@click.option(
    "--max-age",
    type=float,
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Only files last taken at least this long ago.",
)
def cleanup(max_age: float) -> None:
    """Remove lock files that nobody holds. They block nobody; this is tidiness."""
    try:
        removed = cleanup_stale_locks(max_age)
    except LockError as failure:
        raise click.ClickException(failure.message) from failure
    click.echo(f"removed {removed} stale lock file{'' if removed == 1 else 's'}")


def _run(command: tuple[str, ...], descriptor: int) -> int:
    """Run ``command`` to its end, passing signals on; its status as a shell would give it.

    The command inherits the locked descriptor: should we be killed alone, the name stays locked until it ends too.
    """
    watched = FORWARDED | {signal.SIGCHLD}
    with _blocked(watched) as unblocked:
        inherited = fcntl.fcntl(descriptor, fcntl.F_DUPFD, OUT_OF_THE_WAY)
        try:
            # Not `subprocess`: only here can the command start with the signal mask that we were started with.
            child = os.posix_spawnp(
                command[0],
                command,
                os.environ,
                setsigmask=unblocked,
                # Python ignores the first two, and what is ignored would stay so.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
            )
        except OSError as failure:
            click.echo(f"claude-loop lock: {shown(command[0])}: {failure.strerror}", err=True)
            return NOT_FOUND if isinstance(failure, FileNotFoundError) else NOT_EXECUTABLE
        finally:
            os.close(inherited)
        status = _wait(child, watched)
    return status if status >= 0 else SIGNALLED - status


def _wait(child: int, watched: frozenset[signal.Signals]) -> int:
    """Pass signals on until ``child`` ends; its exit status, or minus the signal that ended it."""
    while True:
        received, typed = _next_signal(watched)
        if received == signal.SIGCHLD:
            ended, wait_status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(wait_status)
        elif not typed:
            # What is typed at a terminal reaches its whole foreground group, the command included.
            os.kill(child, received)


@contextmanager
def _blocked(watched: frozenset[signal.Signals]) -> Iterator[set[int]]:
    """Hold back ``watched`` inside the block, to be fetched; yields the mask from before."""
    # Where children are ignored the kernel reaps them, and their status is gone.
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        yield {int(number) for number in mask}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _next_signal(watched: frozenset[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether the terminal sent it rather than a process."""
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(watched)
        return info.si_signo, info.si_code > 0
    # macOS does not say who sent a signal: with a terminal, believe in the terminal.
    received = signal.sigwait(watched)
    return received, received in TYPED and sys.stdin.isatty()


def _as_dict(info: LockInfo) -> dict[str, str | int | None]:
    return {
        "name": info.name,
        "state": info.state,
        "pid": info.pid,
        "host": info.host,
        "since": info.since,
        "file": str(info.file),
        "reason": info.reason,
    }


def _table(found: list[LockInfo]) -> Iterator[str]:
    rows = [("NAME", "STATE", "PID", "HOST", "SINCE", "WHY" if any(info.reason for info in found) else "")]
    rows += [
        (
            info.name,
            info.state,
            str(info.pid or "?"),
            info.host or "?",
            local_time(info.since or "?"),
            info.reason or "",
        )
        for info in found
    ]
    printable = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printable, strict=True)]
    for row in printable:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

"""`backup` and `restore`: the event log as one file, and back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import click

from claude_loop.cli.new_file import NewFile
from claude_loop.cli.terminal import note, plural, put
from claude_loop.errors import ForeignFile, NotFound, UnusableBackup
from claude_loop.instance import InstanceLock
from claude_loop.paths import Home


@click.command()
@click.argument("file", type=NewFile())
def backup(file: Path) -> None:
    """Write the event log as it is now to FILE, also while the daemon runs.

    Prints the cursor of its last event: `tail --since CURSOR` shows what came later.
    """
    from claude_loop.eventlog.sqlite_backup import back_up

    home = Home.from_environment()
    if not home.database.is_file():
        raise NotFound(f"There is no event log in {home.root}.", hint="It is made when the daemon first starts.")
    try:
        state = back_up(home.database, file.absolute())
    except FileExistsError:
        raise ForeignFile(f"{file} is there already.") from None
    except sqlite3.Error as failure:
        raise UnusableBackup(
            f"The event log cannot be copied: {failure}.", hint="Is there room on both disks?"
        ) from None
    put(str(state.head_cursor))
    note(f"{plural(state.head - state.first + 1, 'event')} in {file}, up to the cursor above.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@click.option("--empty", is_flag=True, help="Begin a new log instead: nothing is restored.")
def restore(file: Path | None, *, empty: bool) -> None:
    """Put the event log in FILE in the place of the one that is there, with the daemon down.

    The old log is kept under another name, and so is what was noted of its notifications. Every reader is told to begin
    anew (`reset`), since numbers may mean other events now. What still lies in the spool is read again; what the log
    has already is not stored twice.
    """
    if (file is None) is not empty:
        raise click.UsageError("Name a FILE, or say --empty.")
    from claude_loop.clock import SystemClock
    from claude_loop.eventlog.sqlite_backup import put_aside, put_back

    home = Home.from_environment()
    home.prepare()
    lock = InstanceLock(home)
    lock.acquire()
    try:
        if file is None:
            kept = put_aside(home.database, SystemClock())
            note("The next start begins a new event log.")
        else:
            state, kept = put_back(file.absolute(), home.database, SystemClock())
            note(f"{plural(state.head - state.first + 1, 'event')} restored from {file}.")
        if kept is not None:
            _set_aside(home, kept.name.removeprefix(home.database.name))
    finally:
        lock.release()
    if kept is not None:
        note(f"The log that was there is {kept}; remove it when you do not need it.")


def _set_aside(home: Home, suffix: str) -> None:
    """What was sent, or was to be, tells of states of the log that was replaced: with it, none of them would end.

    The directories of wrapped runs stay. How far their output was read is in the log: it is gone on with from there.
    """
    beside = [home.outbox.with_name(home.outbox.name + end) for end in ("-wal", "-shm")]
    for path in (home.outbox, *beside, home.receipts):
        if path.exists():
            name, dash, end = path.name.partition("-")
            path.rename(path.with_name(f"{name}{suffix}{dash}{end}"))

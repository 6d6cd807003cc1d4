"""`up` where a daemon of another build runs: that one is stopped in order, and one of this build takes its place.

Nothing is lost by it: what is emitted meanwhile waits in the spool, and readers resume from their cursors.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

from claude_loop import launch, systemd_units
from claude_loop.build import full_version
from claude_loop.client import DaemonClient
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home


@dataclass(frozen=True, slots=True)
class Brought:
    """What `up` did. ``former`` is the version of the daemon that was replaced; ``kept`` says, of a daemon of another
    build that was left alone, why, with what to do."""

    started: bool
    former: str = ""
    kept: str = ""


def bring_up(home: Home, client: DaemonClient, tell: launch.Tell) -> Brought:
    """Have a daemon of this build run. Whoever else asks meanwhile waits, and then finds the new one. ``tell`` hears of
    a start that takes long.

    Raises ``DaemonUnreachable``, and ``SettingsRefused`` before anything is stopped.
    """
    home.prepare()
    with launch.turn(home):
        started = launch.start_in_turn(home, client, tell=tell)
        note = DaemonNote.read(home)
        if started:
            return Brought(started, kept=_other_copy(home))
        if note is None or note.version == full_version() or launch.noted_pid(home) != note.pid:
            return Brought(started)
        kept = _reason_to_keep(home, note)
        return Brought(started=False, kept=kept) if kept else _replace(home, client, note, tell)


def _reason_to_keep(home: Home, note: DaemonNote) -> str:
    if note.arguments is None:
        return f"It is part of another program (pid {note.pid}), which has to be started again by whoever began it."
    if _knows_less(home):
        return "Its event log is of a later version, which this one cannot read: update this one."
    return ""


def _knows_less(home: Home) -> bool:
    """Whether a daemon of this build would refuse the log that is there."""
    from claude_loop.eventlog.migrations import STEPS  # noqa: PLC0415 - only where a daemon is replaced
    from claude_loop.eventlog.sqlite_file import open_reader  # noqa: PLC0415

    try:
        with closing(open_reader(home.database)) as reader:
            (schema,) = reader.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return False  # nothing to lose by trying; the new daemon says what is the matter
    return bool(schema > len(STEPS))


def _replace(home: Home, client: DaemonClient, note: DaemonNote, tell: launch.Tell) -> Brought:
    from claude_loop.settings import load_settings  # noqa: PLC0415 - it takes a third of a second

    load_settings()  # one that will not start is no successor
    if systemd_units.runs(home, note.pid):
        systemd_units.restart_unit()
        launch.await_answer(home, client, tell=tell)
    else:
        launch.end(home)
        launch.start_in_turn(home, client, note.arguments or (), tell)
    return Brought(started=True, former=note.version, kept=_other_copy(home))


def _other_copy(home: Home) -> str:
    """systemd starts the copy that its unit names, and somebody's own supervisor may have been quicker than we."""
    now = DaemonNote.read(home)
    if now is None or now.version == full_version():
        return ""
    if systemd_units.runs(home, now.pid):
        return "systemd starts it from another copy: `claude-loop service install` names this one."
    return "Something else starts it from another copy."

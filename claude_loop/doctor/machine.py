"""What the machine brings: Python, SQLite and the clock."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene

# Older ones have no upsert in the form we use, and no `RETURNING`.
OLDEST_SQLITE = (3, 35, 0)
# When this was written: no clock that is right shows less.
_WRITTEN = 1_767_225_600
# What two processes that write and look at the same time may differ by, and some more.
_SLACK_SECONDS = 60.0
_SET = "sudo timedatectl set-ntp true"


def python(scene: Scene) -> Iterator[Finding]:
    del scene
    numbers = ".".join(map(str, sys.version_info[:3]))
    yield ok(f"Python {numbers} at {sys.executable}.")


def sqlite(scene: Scene) -> Iterator[Finding]:
    del scene
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield problem(
            f"SQLite {version} is too old; it takes 3.35.", "sudo apt-get install --only-upgrade libsqlite3-0"
        )
    elif has_full_text_search():
        yield ok(f"SQLite {version}, with full-text search.")
    else:
        yield warning(
            f"SQLite {version} has no FTS5: searches read through the log.",
            "sudo apt-get install --only-upgrade libsqlite3-0",
        )


def has_full_text_search() -> bool:
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        except sqlite3.OperationalError:
            return False
    return True


def clock(scene: Scene) -> Iterator[Finding]:
    now = scene.clock.now_us() / 1e6
    if now < _WRITTEN:
        yield problem("The clock shows a time before this program was written.", _SET)
        return
    ahead = max((path.stat().st_mtime - now for path in _written(scene)), default=0.0)
    if ahead > _SLACK_SECONDS:
        yield warning(f"The clock is {ahead:.0f} s behind what was written before: it was set back.", _SET)
    else:
        yield ok("The clock agrees with what was written before.")


def _written(scene: Scene) -> list[Path]:
    home = scene.home
    files = [home.database, home.database.with_name("events.db-wal"), home.daemon_json, home.daemon_log]
    return [path for path in files if path.is_file()]


CHECKS = {"python": python, "sqlite": sqlite, "clock": clock}

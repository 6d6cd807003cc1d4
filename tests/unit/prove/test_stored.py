"""What `bin/prove` makes of the log that a daemon left."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.progress.projection import ProgressProjection
from tests.prove.oracle import Violation
from tests.prove.stored import read_log


async def written(database: Path) -> None:
    log = SqliteEventLog(database, ProgressProjection())
    await log.open(nobody)
    await log.append([Event("a.b", {"text": "x" * 500}, id=f"e{n}", source="test", at=1) for n in range(100)])
    await log.close()


async def test_a_sound_log_is_read(tmp_path: Path) -> None:
    await written(tmp_path / "events.db")
    stored = await read_log(tmp_path / "events.db")
    assert stored.pairs == [(n + 1, f"e{n}") for n in range(100)]


async def test_a_damaged_log_is_a_violation(tmp_path: Path) -> None:
    database = tmp_path / "events.db"
    await written(database)
    with database.open("r+b") as file:
        for page in range(1, database.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 100)
    with pytest.raises(Violation, match="the log that was left is damaged"):
        await read_log(database)

"""The projection inside a real log, in memory and on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import EventLog, nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.progress.projection import ProgressProjection


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[EventLog]:
    projection = ProgressProjection()
    log: EventLog = (
        MemoryEventLog(projection, clock)
        if request.param == "memory"
        else SqliteEventLog(tmp_path / "events.db", projection, clock)
    )
    await log.open(nobody)
    yield log
    await log.close()

"""`rebuild`: it mends what it is compared with, too."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from claude_loop.cli.rebuild import rebuild
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.paths import Home
from claude_loop.progress.projection import ProgressProjection


@pytest.mark.parametrize("document", ["CAST(substr(document, 1, 20) AS TEXT)", "CAST(X'22FF22' AS TEXT)"])
def test_a_read_model_that_cannot_be_read_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: str):
    monkeypatch.setenv("CLAUDE_LOOP_HOME", str(tmp_path))
    home = Home(tmp_path)
    home.prepare()

    async def fill() -> None:
        log = SqliteEventLog(home.database, ProgressProjection())
        await log.open(nobody)
        await log.append([Event("prd.started", {}, id="e1", project="shop", prd_id="PRD-1", at=1)])
        await log.close()

    asyncio.run(fill())
    with sqlite3.connect(home.database) as spoiled:
        spoiled.execute(f"UPDATE read_model SET document = {document} WHERE key GLOB 'prd/*'")
    spoiled.close()
    runs = [CliRunner().invoke(rebuild, catch_exceptions=False).output for _ in range(2)]
    assert "not what it was before" in runs[0]
    assert "the same as before" in runs[1]

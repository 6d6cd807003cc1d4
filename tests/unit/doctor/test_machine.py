from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from claude_loop.doctor import machine as checks
from tests.unit.doctor.scenes import only, prepared, scene


def test_python_and_sqlite_of_this_machine():
    assert only(checks.python, scene()).level == "ok"
    assert only(checks.sqlite, scene()).level == "ok"


def test_an_sqlite_that_cannot_search(monkeypatch):
    monkeypatch.setattr(checks, "has_full_text_search", lambda: False)
    assert only(checks.sqlite, scene()).level == "warning"
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 31, 0))
    assert only(checks.sqlite, scene()).level == "problem"


@pytest.mark.parametrize(("ahead", "level"), [(-5, "ok"), (30, "ok"), (3600, "warning")])
def test_a_clock_that_was_set_back(ahead, level):
    home = prepared()
    home.database.touch()
    os.utime(home.database, (time.time() + ahead,) * 2)
    assert only(checks.clock, scene()).level == level


def test_a_clock_of_another_age():
    class Past:
        def now_us(self) -> int:
            return 86_400_000_000

    assert only(checks.clock, replace(scene(), clock=Past())).level == "problem"

"""Moments as a person writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from claude_loop.said_times import moment_said, seconds_said

NOW = datetime(2026, 1, 26, 12, 0, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("999999999w", datetime(1970, 1, 1, tzinfo=UTC)),
        ("12:00", NOW - timedelta(seconds=30)),
        ("12:01", NOW - timedelta(hours=24) + timedelta(seconds=30)),  # not yet today: yesterday
        ("2026-01-26T10:00:00Z", NOW - timedelta(seconds=30)),
        ("1769421600", NOW - timedelta(seconds=30)),
        ("1769421600000", NOW - timedelta(seconds=30)),
        ("2026-01-25", datetime(2026, 1, 25).astimezone()),
    ],
)
def test_a_moment(text: str, moment: datetime):
    assert moment_said(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "now", "10x", "-5m", "1e9", "25:00", "2026-13-01", "2026-W05-1", "9" * 20, "١h"])
def test_what_is_none(text: str):
    assert moment_said(text, NOW) is None
    assert seconds_said(text) is None

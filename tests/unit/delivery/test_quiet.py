"""Quiet hours across midnight and changes of the clock."""

import time
from datetime import UTC, datetime

import pytest

from claude_loop.clock import parse_hours
from claude_loop.delivery.quiet import quiet_until


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        ("22:00-07:00", "2026-01-26T20:59", None),  # 21:59
        ("22:00-07:00", "2026-01-26T21:00", "2026-01-27T06:00"),
        ("22:00-07:00", "2026-01-27T02:00", "2026-01-27T06:00"),
        ("22:00-07:00", "2026-01-27T06:00", None),
        ("12:00-13:30", "2026-01-26T11:30", "2026-01-26T12:30"),
        ("12:00-13:30", "2026-01-26T12:30", None),
        # The night of 29 March has no 02:00 to 03:00; 07:00 comes an hour sooner.
        ("22:00-07:00", "2026-03-28T21:30", "2026-03-29T05:00"),
        ("22:00-02:30", "2026-03-29T00:30", "2026-03-29T01:30"),  # an end that is never shown: as if it were
        # The night of 25 October has 02:00 to 03:00 twice.
        ("22:00-07:00", "2026-10-24T22:00", "2026-10-25T06:00"),
        ("22:00-02:30", "2026-10-25T00:10", "2026-10-25T00:30"),  # 02:10 for the first time
        ("22:00-02:30", "2026-10-25T01:10", "2026-10-25T01:30"),  # and for the second
    ],
)
def test_when_it_is_quiet_and_until_when(hours, now, end):
    assert quiet_until(parse_hours(hours), utc(now)) == (None if end is None else utc(end))


def test_without_hours_it_is_never_quiet():
    assert quiet_until(parse_hours(""), utc("2026-01-27T02:00")) is None

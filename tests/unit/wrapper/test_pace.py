"""When lines may be shown together."""

from __future__ import annotations

import pytest

from claude_loop.wrapper import pace as module
from claude_loop.wrapper.pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def lines(pace, clock, gaps):
    """What the pace says after each line."""
    said = []
    for gap in gaps:
        clock.now += gap
        said.append(pace.piece())
    return said


def test_lines_that_come_steadily_are_shown_in_steps(clock):
    assert lines(Pace(), clock, [0.01] * 40) == [number in {31, 39} for number in range(40)]


@pytest.mark.parametrize(
    "gaps",
    [[0.001] * 64, [0.5], [0.5, *[0.0] * 19] * 4, [*[0.01] * 20, *[0.0] * 40] * 4],
    ids=["too fast", "too few", "bursts", "bursts after a few"],
)
def test_others_are_shown_at_once(clock, gaps):
    assert not any(lines(Pace(), clock, gaps))


def test_where_somebody_types_they_are_shown_at_once(clock):
    pace = Pace()
    pace.key()
    assert not any(lines(pace, clock, [0.01] * 96))
    assert any(lines(pace, clock, [0.01] * 16))


def test_much_at_once_begins_anew(clock):
    pace = Pace()
    lines(pace, clock, [0.01] * 31)
    pace.break_off()
    assert lines(pace, clock, [0.01] * 32) == [False] * 31 + [True]

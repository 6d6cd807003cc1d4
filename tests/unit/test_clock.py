import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.clock import ManualClock, SystemClock, parse_time, rfc3339, until_tick


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-26T12:00:00.000Z", 1_769_428_800_000_000),
        ("2026-01-26T12:00:00.123456Z", 1_769_428_800_123_456),
        ("2026-01-26T13:00:00+01:00", 1_769_428_800_000_000),
        ("2026-01-26 12:00:00", 1_769_428_800_000_000),
        (1_769_428_800, 1_769_428_800_000_000),
        (1_769_428_800.5, 1_769_428_800_500_000),
        (1_769_428_800_123, 1_769_428_800_123_000),
        (0, 0),
    ],
)
def test_times_are_read_from_text_seconds_and_milliseconds(text, us):
    assert parse_time(text) == us


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "now",
        "20260126",
        "2026-01-26",
        "2026-13-01T00:00:00Z",
        "2026-W05-1T00:00:00",
        True,
        -1,
        1e20,
        float("nan"),
        float("inf"),
    ],
)
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises((ValueError, OverflowError)):
        parse_time(wrong)


@given(st.integers(0, 253_402_300_799_999))
def test_what_is_shown_reads_back(ms):
    assert parse_time(rfc3339(ms)) == ms * 1000


@pytest.mark.parametrize(
    ("now", "every", "pause"),
    [(7.0, 1.0, 1.0), (7.25, 1.0, 0.75), (7.25, 0.25, 0.25), (7.5, 10, 2.5), (7.9375, 1.0, 1.0625)],
)
def test_those_who_look_again_and_again_do_so_together(now, every, pause):
    assert until_tick(now, every) == pause


def test_the_manual_clock_moves_only_when_told_and_its_randomness_repeats():
    clock, same = ManualClock(), ManualClock()
    start = clock.now_us()
    clock.advance(1.5)
    clock.step_wall(-10)
    assert clock.now_us() == start - 8_500_000
    assert clock.monotonic() == 1.5
    assert [clock.random_bytes(8), clock.random_bytes(8)] == [same.random_bytes(8), same.random_bytes(8)]
    assert len({SystemClock().random_bytes(16) for _ in range(5)}) == 5

"""Lines of loops' and agents' output: what announces something, and what only looks like it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from claude_loop.formats.loop_output import Banner, Promise, UsageLimit, scan

BERLIN = ZoneInfo("Europe/Berlin")
# A Thursday, 14:00 in Berlin.
NOW = datetime(2026, 11, 26, 14, 0, tzinfo=BERLIN)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch):
    """The machine's zone: what a time without a zone is in."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "banner"),
    [
        ("  Ralph Iteration 3 of 10 (claude)", Banner(3, 10)),
        ("Ralph Iteration 1 of 20 (amp)\r\n", Banner(1, 20)),
        ("\x1b[1;34m  Ralph Iteration 12 of 100 (claude)\x1b[0m", Banner(12, 100)),
        ("=== Iteration 4/10 ===", Banner(4, 10)),
        ("--- Iteration 4 ---", Banner(4, None)),
        ("## Iteration 7", Banner(7, None)),
        ("[Iteration 2 of 5]", Banner(2, 5)),
        ("Starting iteration 2", Banner(2, None)),
        ("🔄 Iteration #3 of 9", Banner(3, 9)),
        ("╔══ Iteration: 6 / 8 ══╗", Banner(6, 8)),
        ("[2026-11-26 14:00:01] === Loop 2/5 ===", Banner(2, 5)),
        ("12:00:01 >>> Iteration 3 of 4 <<<", None),
    ],
)
def test_banners(line, banner):
    assert scan(line, NOW_MS) == banner


@pytest.mark.parametrize(
    "line",
    [
        "Iteration 3",  # alone it may be anybody's prose
        "Iteration 3 complete. Continuing...",
        "In iteration 3 of 10 the parser was rewritten",
        "Iteration 3 of 10 failed because the cart was empty",
        "test_iteration_3_of_10 PASSED",
        "tests/test_loop.py::test_banner[Iteration 3 of 10] PASSED [ 50%]",
        "PASSED tests/test_loop.py::test_banner - Iteration 3 of 10",
        "Iteration 11 of 10",
        "Loop 3",
        "x" * 100_000 + " iteration 3 of 10",
    ],
)
def test_what_is_no_banner(line):
    assert scan(line, NOW_MS) is None


@pytest.mark.parametrize(
    ("line", "promise"),
    [
        ("<promise>COMPLETE</promise>", Promise("COMPLETE")),
        ("  **<promise> COMPLETE </promise>**  \r", Promise("COMPLETE")),
        ("All stories pass. <promise>COMPLETE</promise>", Promise("COMPLETE")),
        ("Reply with: <promise>COMPLETE</promise>", None),
        ("If all is done, output <promise>COMPLETE</promise> and stop.", None),
        ("tests/test_x.py::test_y[<promise>COMPLETE</promise>] PASSED", None),
        ("<promise>COMPLETE", None),
    ],
)
def test_promises(line, promise):
    assert scan(line, NOW_MS) == promise


def at(*moment: int, zone=BERLIN) -> int:
    return int(datetime(*moment, tzinfo=zone).timestamp() * 1000)


@pytest.mark.parametrize(
    ("line", "until"),
    [
        ("Claude AI usage limit reached|1795700000", 1795700000_000),
        ("Claude AI usage limit reached|1795700000123", 1795700000_123),
        ("5-hour limit reached ∙ resets 5pm", at(2026, 11, 26, 17)),
        ("5-hour limit reached ∙ resets 1pm", at(2026, 11, 27, 13)),
        ("Claude usage limit reached. Your limit will reset at 5:30 PM (America/New_York).",
         at(2026, 11, 26, 17, 30, zone=ZoneInfo("America/New_York"))),
        ("You've hit your limit · resets 5pm (Europe/Berlin)", at(2026, 11, 26, 17)),
        ("You’ve hit your usage limit · resets at 17:00 (Europe/Berlin)", at(2026, 11, 26, 17)),
        ("You've hit your session limit · resets 12am (UTC)", at(2026, 11, 27, zone=UTC)),
        ("Weekly limit reached ∙ resets Nov 30, 5pm", at(2026, 11, 30, 17)),
        ("Opus weekly limit reached ∙ resets Jan 3 at 10am", at(2027, 1, 3, 10)),
        ("Weekly limit reached · resets Mon 10am", at(2026, 11, 30, 10)),
        ("You've reached your weekly limit, resets tomorrow at 9am", at(2026, 11, 27, 9)),
        ("ERROR: You've hit your usage limit. Upgrade to Pro or try again in 2 hours 5 minutes.", NOW_MS + 7_500_000),
        ("You've hit your usage limit. Try again at Nov 30th, 2026 5:04 PM.", at(2026, 11, 30, 17, 4)),
        ("You have exhausted your capacity on this model. Your quota will reset after 2h15m30s.", NOW_MS + 8_130_000),
        ("API Error: usage limit reached, resets at 2026-11-26T17:00:00Z", at(2026, 11, 26, 17, zone=UTC)),
        ("⚠ \x1b[33mClaude usage limit reached.\x1b[0m", None),
        ("Limit reached · resets 5pm", at(2026, 11, 26, 17)),
        ("Usage limit reached · resets 5pm (CST)", None),  # Chicago, Havana or Shanghai
        ("Usage limit reached · resets 5pm (Mars/Olympus)", None),
        ("Usage limit reached · resets Feb 31 at 5pm", None),
        ("Usage limit reached · resets 25:00", None),
        ("Usage limit reached · resets 9999-12-31 23:59-12:00", None),  # beyond the calendar
    ],
)  # fmt: skip
def test_usage_limits(line, until):
    found = scan(line, NOW_MS)
    assert isinstance(found, UsageLimit)
    assert found.until_ms == until
    assert "limit" in found.reason.lower() or "exhausted" in found.reason


@pytest.mark.parametrize(
    "line",
    [
        "test_usage_limit_reached PASSED",
        "tests/test_limits.py::test_says[Claude AI usage limit reached|1795700000] PASSED",
        "FAILED tests/test_limits.py::test_x - usage limit reached|1795700000",
        "✓ usage limit reached shows a countdown (3 ms)",
        "ok 3 - usage limit reached",
        "The usage limit reached its end of life",
        "Usage limit reached handling was added to the monitor",
        "You've hit your limit of three retries",
        "limit reached",
        "rate limiter: 5 requests",
    ],
)
def test_what_is_no_usage_limit(line):
    assert scan(line, NOW_MS) is None


def test_clocks_that_change_meanwhile_are_respected():
    """The night in which Berlin puts its clocks back: 5 a.m. is sixteen hours after 2 p.m. the day before."""
    before = datetime(2026, 10, 24, 14, 0, tzinfo=BERLIN)
    found = scan("You've hit your limit · resets 5am (Europe/Berlin)", int(before.timestamp() * 1000))
    assert isinstance(found, UsageLimit)
    assert found.until_ms == int((before.timestamp() + 16 * 3600) * 1000)


def test_an_agent_with_json_output_says_the_same_in_its_result():
    line = {"type": "result", "is_error": True, "result": "Claude AI usage limit reached|1795700000"}
    assert scan(json.dumps(line), NOW_MS) == UsageLimit("Claude AI usage limit reached|1795700000", 1795700000_000)
    line = {"type": "result", "result": "Done.\n\n<promise>COMPLETE</promise>"}
    assert scan(json.dumps(line), NOW_MS) == Promise("COMPLETE")
    assert scan('{"type":"user","result":"<promise>COMPLETE</promise>"}', NOW_MS) is None
    assert scan('{"type":"result","result":"<promise>', NOW_MS) is None


@pytest.mark.parametrize(
    "piece",
    [
        "=",
        "- ",
        "iteration ",
        "iteration 1/1 (",
        "<promise>",
        "limit reached ",
        "\x1b[",
        "resets in 1d ",
        '{"result":[',
    ],
)
def test_hostile_lines_take_linear_time(piece):
    began = time.process_time()
    scan(piece * (1_000_000 // len(piece)), NOW_MS)
    scan("Usage limit reached " + piece * (100_000 // len(piece)), NOW_MS)
    assert time.process_time() - began < 2


def test_half_a_character_is_none():
    said = json.dumps({"type": "result", "result": "<promise>so \ud83d</promise>"})
    assert scan(said, NOW_MS) == Promise("so \ufffd")

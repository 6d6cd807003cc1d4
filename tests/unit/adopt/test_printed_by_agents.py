"""Every kind of line that agents are known to print, read by what reads the output of wrapped runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from claude_loop.adopt.findings import Counted, Findings
from claude_loop.adopt.scanners import LoopScanners
from claude_loop.formats.agent_usage import Thread, Usage
from claude_loop.formats.loop_output import Promise, UsageLimit
from tests.support import ROOT

AT_MS = 1_795_150_000_000
ROWS = [json.loads(row) for row in (ROOT / "tests" / "fixtures" / "agents" / "printed.jsonl").read_text().splitlines()]


def told(output: str) -> list[dict[str, Any]]:
    findings = Findings(LoopScanners())
    found = [*findings.feed(output.encode(), 0, AT_MS), *findings.settle()]
    return [finding.counts if isinstance(finding, Counted) else in_words(finding.what) for finding in found]


def in_words(what: object) -> dict[str, Any]:
    match what:
        case Usage():
            return {"usage": asdict(what)}
        case Thread():
            return {"thread": what.session_id}
        case Promise():
            return {"promise": what.text}
        case UsageLimit():
            return {"limit": what.reason, "until_ms": what.until_ms}
    raise AssertionError(what)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["line"][:60])
def test_each_line_tells_what_it_tells_and_nothing_else(row):
    assert told(row["line"] + "\n") == row["tells"]


def test_all_of_them_one_after_the_other():
    assert told("".join(row["line"] + "\n" for row in ROWS)) == [tells for row in ROWS for tells in row["tells"]]


def test_cut_off_anywhere_they_fail_nobody():
    for row in ROWS:
        for length in range(0, len(row["line"]), 37):
            told(row["line"][:length] + "\n")

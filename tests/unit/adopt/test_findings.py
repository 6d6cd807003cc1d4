"""What is found in a stream of lines, however it is cut."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from claude_loop.adopt.findings import Counted, Findings, Said
from tests.unit.adopt.stand_ins import Banner, SimpleScanners

TESTS = b"""collected 3 items
tests/test_cart.py ..F
FAILED tests/test_cart.py::test_total - assert 1 == 2
========= 1 failed, 2 passed in 0.12s =========
"""
OUTPUT = (
    b"hello\n=== Iteration 2 of 10 ===\nworking\n" + TESTS + b"then more\n" * 10 + b"<promise>DONE</promise>\n" + TESTS
)


def found_in(pieces, scanners=None):
    findings, offset, found = Findings(scanners or SimpleScanners()), 0, []
    for piece in pieces:
        found += findings.feed(piece, offset, 0)
        offset += len(piece)
    return found + list(findings.settle())


def test_finds_banners_promises_and_both_test_runs():
    found = found_in([OUTPUT])
    said = [finding for finding in found if isinstance(finding, Said)]
    tested = [finding for finding in found if isinstance(finding, Counted)]
    assert said[0].what == Banner(2, 10)
    assert OUTPUT[said[0].offset :].startswith(b"=== Iteration 2")
    assert [finding.counts["failures"] for finding in tested] == [[{"name": "tests/test_cart.py::test_total"}]] * 2
    assert all(OUTPUT[finding.offset :].startswith(b"========= 1 failed") for finding in tested)


@given(st.sets(st.integers(0, OUTPUT.count(b"\n"))))
def test_it_does_not_matter_how_the_lines_come(cuts):
    lines = OUTPUT.splitlines(keepends=True)
    places = [0, *sorted(cuts), len(lines)]
    pieces = [b"".join(lines[a:b]) for a, b in pairwise(places)]
    assert {repr(f) for f in found_in(pieces)} == {repr(f) for f in found_in([OUTPUT])}


def test_ordinary_lines_are_not_looked_at():
    scanners = SimpleScanners()
    assert found_in([b"an ordinary line, of loops\n" * 1000 + b"Iteration #1, hm\n"], scanners) == []
    assert scanners.lines == ["Iteration #1, hm\n"]


def test_lines_that_only_look_like_results_cost_little():
    scanners = SimpleScanners()
    begun = time.perf_counter()
    for _ in range(30):
        found_in([b"ok  nothing of the kind, 3 passed by\n" * 900], scanners)
    assert time.perf_counter() - begun < 20
    assert len(scanners.blocks) < 10_000

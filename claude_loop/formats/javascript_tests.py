"""Summaries of jest and vitest."""

from __future__ import annotations

import re

from claude_loop.formats.test_counts import Counts, Found

_SAID = r"(?:\d{1,9} (?:failed|passed|skipped|todo|obsolete), ){0,5}"
_JEST_TESTS = re.compile(rf"^Tests: +({_SAID})(\d{{1,9}}) total$")
_JEST_SUITES = re.compile(rf"^Test Suites: ({_SAID})(\d{{1,9}})(?: of \d{{1,9}})? total$")
_JEST_TIME = re.compile(r"^Time: +([\d.]{1,12}) ?(ms|s|m)\b")
_BULLET = re.compile(r"^ {1,4}● (\S.*)$")

_VITEST_FILES = re.compile(r"^ *Test Files  ((?:\d{1,9} \w{1,12} \| ){0,5}\d{1,9} \w{1,12}) \(\d{1,9}\)$")
_VITEST_TESTS = re.compile(r"^ *Tests  ((?:\d{1,9} \w{1,12} \| ){0,5}\d{1,9} \w{1,12}) \(\d{1,9}\)$")
_VITEST_NONE = re.compile(r"^ *Tests  no tests$")
_VITEST_TIME = re.compile(r"^ *Duration  ([\d.]{1,12})(ms|s|m)\b")
_VITEST_FAIL = re.compile(r"^ ?FAIL  (\S.*)$")
_COUNT = re.compile(r"(\d+) (\w+)")
_SCALE = {"ms": 1, "s": 1000, "m": 60_000}
_REACH = 8  # lines between the parts of one summary


def find_jest(lines: list[str]) -> Found | None:
    for at in range(len(lines) - 1, 0, -1):
        tests = _JEST_TESTS.match(lines[at].rstrip()) if lines[at].startswith("Tests:") else None
        suites = _JEST_SUITES.match(lines[at - 1].rstrip()) if tests else None
        if tests and suites:
            counts = Counts("jest")
            _count(counts, tests[1], suites[1])
            end = _duration(lines, at, counts, _JEST_TIME)
            if counts.failed:
                _name(lines, at, counts, _JEST_TESTS, _BULLET)
            return Found(end, counts)
    return None


def find_vitest(lines: list[str]) -> Found | None:
    for at in range(len(lines) - 1, 0, -1):
        if "Tests  " not in lines[at]:
            continue
        tests = _VITEST_TESTS.match(lines[at].rstrip())
        files = _VITEST_FILES.match(lines[at - 1].rstrip())
        if files and (tests or _VITEST_NONE.match(lines[at].rstrip())):
            counts = Counts("vitest")
            _count(counts, tests[1] if tests else "", files[1])
            end = _duration(lines, at, counts, _VITEST_TIME)
            if counts.failed:
                _name(lines, at, counts, _VITEST_TESTS, _VITEST_FAIL)
            return Found(end, counts)
    return None


def _count(counts: Counts, tests: str, files: str) -> None:
    said = {word: int(n) for n, word in _COUNT.findall(tests)}
    counts.passed = said.get("passed", 0)
    counts.failed = said.get("failed", 0)
    counts.skipped = said.get("skipped", 0) + said.get("todo", 0)
    if not counts.failed:
        # A file that could not be loaded has no tests to fail, and is a failure all the same.
        counts.failed = {word: int(n) for n, word in _COUNT.findall(files)}.get("failed", 0)


def _duration(lines: list[str], at: int, counts: Counts, pattern: re.Pattern[str]) -> int:
    for later in range(at + 1, min(at + _REACH, len(lines))):
        if match := pattern.match(lines[later]):
            try:
                counts.duration_ms = round(float(match[1]) * _SCALE[match[2]])
            except ValueError:
                return at
            return later
    return at


def _name(lines: list[str], at: int, counts: Counts, end: re.Pattern[str], pattern: re.Pattern[str]) -> None:
    start = at
    while start > 0 and not end.match(lines[start - 1].rstrip()):
        start -= 1
    for number in range(start, at):
        if match := pattern.match(lines[number]):
            counts.fail(match[1], _message(lines, number + 1, at, pattern))


def _message(lines: list[str], start: int, end: int, pattern: re.Pattern[str]) -> str:
    """The first words below a name; vitest lists several names above one message."""
    for line in lines[start : min(start + _REACH, end)]:
        if line.strip() and not pattern.match(line):
            return line
    return ""

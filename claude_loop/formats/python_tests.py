"""Summaries of pytest and unittest."""

from __future__ import annotations

import re

from claude_loop.formats.test_counts import Counts, Found

_KIND = "failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?|rerun|subtests passed|subtests failed"
_WORD = rf"\d{{1,9}} (?:{_KIND})"
_PYTEST = re.compile(
    rf"^(?:=+ )?((?:{_WORD}, ){{0,12}}{_WORD}|no tests ran) in (\d{{1,9}}\.\d\d)s"
    r"(?: \([\d:, day]{1,30}\))?(?: =+)?\s*$"
)
# Without the time, as agents shorten it; believed only of a command that runs pytest.
_SHORTENED = re.compile(
    rf"^(?:=+ )?((?:{_WORD}, ){{0,12}}{_WORD})(?: in (\d{{1,9}}(?:\.\d{{1,3}})?) ?s)?\.?(?: =+)?\s*$"
)
_COUNT = re.compile(r"(\d+) (subtests passed|subtests failed|\w+)")
_SHORT = re.compile(r"^(?:FAILED|ERROR|SUBFAILED(?:\(.{0,80}?\)|\[.{0,80}?\])?) (\S.*)$")
_HEADING = re.compile(r"^_{3,} (?:ERROR (?:at \w+ of|collecting) )?(\S.{0,300}?) _{3,}$")
_OUTCOMES = frozenset({"failed", "passed", "skipped", "xfailed", "xpassed", "error", "errors"})

_RAN = re.compile(r"^Ran (\d{1,9}) tests? in (\d{1,9}\.\d{3})s$")
_VERDICT = re.compile(r"^(OK|FAILED|NO TESTS RAN)(?: \(((?:[a-z ]{1,30}=\d{1,9}(?:, )?){1,8})\))?$")
_BLOCK = re.compile(r"^(?:FAIL|ERROR|UNEXPECTED SUCCESS): (\S.*)$")
_TEST_ID = re.compile(r"^(\w+) \(([\w.]+)\)(.*)$")


def find_pytest(lines: list[str]) -> Found | None:
    for at in range(len(lines) - 1, -1, -1):
        match = _PYTEST.match(lines[at]) if " in " in lines[at] else None
        if match and (match[1] == "no tests ran" or _OUTCOMES & {word for _, word in _COUNT.findall(match[1])}):
            return Found(at, _pytest(lines, at, match))
    return None


def find_shortened_pytest(lines: list[str]) -> Found | None:
    """A summary that somebody has shortened, the last line that is one."""
    for at in range(len(lines) - 1, -1, -1):
        match = _SHORTENED.match(lines[at]) if lines[at][:1].isdigit() or lines[at].startswith("=") else None
        if match and _OUTCOMES & {word for _, word in _COUNT.findall(match[1])}:
            return Found(at, _pytest(lines, at, match))
    return None


def _pytest(lines: list[str], at: int, match: re.Match[str]) -> Counts:
    said = {word.rstrip("s") if word.startswith("error") else word: int(n) for n, word in _COUNT.findall(match[1])}
    counts = Counts(
        "pytest",
        passed=said.get("passed", 0) + said.get("xpassed", 0),
        failed=said.get("failed", 0) + said.get("error", 0),
        skipped=said.get("skipped", 0) + said.get("xfailed", 0),
        duration_ms=None if match[2] is None else round(float(match[2]) * 1000),
    )
    if counts.failed:
        _name_failures(lines, at, counts)
    return counts


def _name_failures(lines: list[str], at: int, counts: Counts) -> None:
    """From the short summary; without one (-r, --no-summary) from the headings of the tracebacks."""
    short: list[tuple[str, str]] = []
    headings: list[str] = []
    headed = False
    for before in range(at - 1, -1, -1):
        line = lines[before]
        if " in " in line and _PYTEST.match(line):
            break
        if match := _SHORT.match(line):
            short.append(_split_short(match[1]))
        elif "short test summary info" in line:
            headed = True
            break
        elif line.startswith("___") and (heading := _HEADING.match(line)):
            headings.append(heading[1])
    # Without their heading (cut off by `tail`) such lines may also be what a test has logged.
    short = short if headed else [(name, message) for name, message in short if ".py" in name]
    for name, message in reversed(short or [(heading, "") for heading in headings]):
        counts.fail(name, message)


def _split_short(rest: str) -> tuple[str, str]:
    """``path::test[a - b] - AssertionError: …``: a parameter may hold the separator, so look behind its bracket."""
    bracket = rest.find("[")
    dash = rest.find(" - ")
    if 0 <= bracket < dash:
        closed = rest.find("] - ", bracket)
        if closed >= 0:
            return rest[: closed + 1], rest[closed + 4 :]
        if rest.endswith("]"):
            return rest, ""
    return (rest, "") if dash < 0 else (rest[:dash], rest[dash + 3 :])


def find_unittest(lines: list[str]) -> Found | None:
    for at in range(len(lines) - 1, -1, -1):
        ran = _RAN.match(lines[at]) if lines[at].startswith("Ran ") else None
        if ran is None:
            continue
        for end in range(at + 1, min(at + 4, len(lines))):
            if verdict := _VERDICT.match(lines[end]):
                return Found(end, _unittest(lines, at, ran, verdict))
    return None


def _unittest(lines: list[str], at: int, ran: re.Match[str], verdict: re.Match[str]) -> Counts:
    said = {name.strip(): int(n) for name, n in re.findall(r"([a-z ]+)=(\d+)", verdict[2] or "")}
    failed = said.get("failures", 0) + said.get("errors", 0) + said.get("unexpected successes", 0)
    skipped = said.get("skipped", 0) + said.get("expected failures", 0)
    counts = Counts(
        "unittest",
        # An error in setUpClass is not among the tests that ran.
        passed=max(0, int(ran[1]) - failed - skipped),
        failed=failed,
        skipped=skipped,
        duration_ms=round(float(ran[2]) * 1000),
    )
    if failed:
        _name_blocks(lines, at, counts)
    return counts


def _name_blocks(lines: list[str], at: int, counts: Counts) -> None:
    start = at
    while start > 0 and not _RAN.match(lines[start - 1]):
        start -= 1
    name, last = "", ""
    for line in lines[start:at]:
        block = _BLOCK.match(line)
        if name and (block or line.startswith("=====")):
            counts.fail(name, last)
            name = ""
        if block:
            name, last = _test_id(block[1]), ""
        elif line.strip() and not line.startswith(("-----", "=====")):
            last = line
    if name:
        counts.fail(name, last)


def _test_id(said: str) -> str:
    match = _TEST_ID.match(said)
    if not match:
        return said
    method, where, subtest = match.groups()
    return (where if where.endswith(f".{method}") else f"{where}.{method}") + subtest

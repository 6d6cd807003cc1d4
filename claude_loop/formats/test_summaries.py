"""The last complete summary of a test runner in a text: counts and failing names, or None.

A summary is only what a runner prints, whole and alone on its lines: prose about tests is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from claude_loop.formats.compiled_tests import find_cargo, find_go
from claude_loop.formats.javascript_tests import find_jest, find_vitest
from claude_loop.formats.plain_text import plain_lines
from claude_loop.formats.python_tests import find_pytest, find_shortened_pytest, find_unittest
from claude_loop.formats.test_counts import Found

# Summaries stand at the end; what is further away than this is not searched.
_REACH = 2 * 2**20

# What every summary of a runner holds: most outputs hold none of it and cost nothing more.
_MARKS: tuple[tuple[str, Callable[[list[str]], Found | None]], ...] = (
    ("Ran ", find_unittest),
    ("Test Suites:", find_jest),
    ("Test Files", find_vitest),
    ("test result: ", find_cargo),
)
_PYTEST = re.compile(r"(?:passed|failed|skipped|errors?|deselected|warnings?|rerun|no tests ran)[^\n]{0,40} in \d")
_GO = re.compile(r"(?:^|\n)(?:ok[ \t]{2}|FAIL[ \t])")

# Commands that only show what others have written: a log that is read is no test run.
_READERS = frozenset(
    {"cat", "less", "more", "head", "tail", "grep", "rg", "sed", "awk", "echo", "printf", "bat", "zcat", "nl", "tac"}
    | {"sort", "uniq", "wc", "cut", "diff", "ls", "find", "cd", "true"}
)
_READING_GIT = frozenset({"log", "show", "diff", "grep", "blame", "status"})
_RUNS_PYTEST = re.compile(r"(?<![\w./-])(?:[\w./~-]{0,200}/)?(?:pytest|py\.test)(?![\w.-])")
_STEP = re.compile(r"&&|\|\||[;|\n]")


def summarize(text: str, command: str | None = None) -> dict[str, Any] | None:
    """``command``: what printed the text, if known; commands that only read files run no tests."""
    if command is not None and _only_reads(command):
        return None
    text = text[-_REACH:]
    finders = _candidates(text)
    if command is not None and _RUNS_PYTEST.search(command[:10_000]):
        finders.append(find_shortened_pytest)
    if not finders:
        return None
    lines = plain_lines(text)
    found = [each for each in (find(lines) for find in finders) if each is not None]
    return max(found, key=lambda each: each.line).counts.summary() if found else None


def _candidates(text: str) -> list[Callable[[list[str]], Found | None]]:
    # Colours may stand between the words that the patterns look for.
    coloured = "\x1b" in text
    known = [find for mark, find in _MARKS if coloured or mark in text]
    if coloured or _PYTEST.search(text):
        known.append(find_pytest)
    if coloured or "\r" in text or _GO.search(text):
        known.append(find_go)
    return known


def _only_reads(command: str) -> bool:
    steps = [step.split() for step in _STEP.split(command[:10_000]) if step.strip()]
    return bool(steps) and all(_reads(words) for words in steps)


def _reads(words: list[str]) -> bool:
    name = words[0].rsplit("/", 1)[-1]
    if name == "git":
        return len(words) > 1 and words[1] in _READING_GIT
    return name in _READERS

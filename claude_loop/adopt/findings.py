"""What the lines of a run's output tell: where iterations begin, what tests found, what the loop waits for.

What lines mean is others' business: here they are only found in a stream, whatever its size, and passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from claude_loop.formats.plain_text import plain


class Scanners(Protocol):
    """The parsers of `formats`, or others."""

    def line(self, text: str, now_ms: int) -> object:
        """A banner, a promise, a usage limit, or None."""

    def usage(self, text: str) -> object:
        """What an agent has used, or the session whose use is told next, or None."""

    def tests(self, text: str) -> dict[str, Any] | None:
        """The last complete summary of tests in ``text``, as in `test.run`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one line says; it begins at ``offset``."""

    offset: int
    what: object


@dataclass(frozen=True, slots=True)
class Counted:
    """A summary of tests whose last line begins at ``offset``."""

    offset: int
    counts: dict[str, Any]


# In lower case. A line without any of these is not looked at.
_WORDS = (b"promise>", b"limit", b"quota", b"exhausted")
# What tells of an agent's use: as keys and values of its JSON, not in a text that is quoted in it.
_USAGE = (b'"total_cost_usd"', b'"turn.completed"', b'"thread.started"')
# Programs speak of loops all day; those that count them have a number close behind.
_COUNTED = (b"iteration", b"loop")
_NUMBER = re.compile(rb"[^\n]{0,24}?[0-9]")
_RESULTS = (
    b"passed", b"failed", b"no tests ran", b" test in ", b" tests in ", b"test result:", b"tests:", b"test files",
    b"ok  ", b"ok\t", b"fail\t", b"errors in ", b"error in ", b"skipped in ",
)  # fmt: skip
_RESULT_LINE = re.compile(
    r"\d+ (?:passed|failed|skipped|errors?|deselected|xfailed|xpassed)\b.{0,120}? in \d|no tests ran"
    r"|^\s*Ran \d+ tests? in |^\s*Tests:?\s+.{0,40}\d|^\s*Test (?:Suites:|Files)\s|^\s*test result: "
    r"|^(?:ok|FAIL)[ \t]+\S"
)
# What belongs to a summary may follow its first tell-tale line: the verdict of unittest, jest's time.
_LINES_AFTER = 6
_BLOCK_BYTES = 64 * 1024
_LONGEST_LINE = 4 * 1024
# Of an agent's output in JSON: a result holds its last words, and what they cost stands behind them.
LONGEST_JSON = 64 * 1024
# A stretch that looks like results again and again and never is one is no test run.
_VAIN_TRIES = 3


class Findings:
    """Fed with whole lines, in order."""

    def __init__(self, scanners: Scanners) -> None:
        self._scanners = scanners
        self._block = bytearray()
        self._result_at: int | None = None
        self._lines_since = 0
        self._vain = 0

    def feed(self, piece: bytes, offset: int, now_ms: int) -> Iterator[Said | Counted]:
        """What is found in ``piece``, which begins at ``offset``, in order of offsets."""
        lowered = piece.lower()
        results = set(_lines_with(_RESULTS, lowered))
        used = set(_lines_with(_USAGE, lowered))
        lines = sorted({*_lines_with(_WORDS, lowered), *_lines_with(_COUNTED, lowered, _NUMBER), *results, *used})
        done = 0
        for begin, end in lines:
            text = plain(piece[begin : min(end, begin + _LONGEST_LINE)])
            if (begin, end) in results and _RESULT_LINE.search(text):
                yield from self._collect(piece[done:begin])
                yield from self._collect(piece[begin:end], offset + begin)
                done = end
            if (begin, end) in used and end - begin <= LONGEST_JSON:
                usage = self._scanners.usage(plain(piece[begin:end]).strip())
                if usage is not None:
                    yield Said(offset + begin, usage)
            said = self._scanners.line(text, now_ms)
            if said is not None:
                yield Said(offset + begin, said)
        yield from self._collect(piece[done:])

    def settle(self) -> Iterator[Counted]:
        """Nothing more comes for now: what is there of a summary is all of it."""
        if self._result_at is None:
            return
        at, self._result_at = self._result_at, None
        counts = self._scanners.tests(plain(bytes(self._block)))
        self._vain = 0 if counts else self._vain + 1
        if counts is not None or self._vain >= _VAIN_TRIES:
            self._block.clear()
            self._vain = 0
        if counts is not None:
            yield Counted(at, counts)

    def _collect(self, lines: bytes, result_at: int | None = None) -> Iterator[Counted]:
        """``result_at``: these lines look like the result of tests."""
        if result_at is not None:
            self._result_at, self._lines_since = result_at, 0
        elif self._result_at is not None and lines:
            rest = _LINES_AFTER - self._lines_since
            cut = _after_lines(lines, rest)
            self._lines_since += lines.count(b"\n", 0, cut)
            self._block += lines[:cut]
            lines = lines[cut:]
            if self._lines_since >= _LINES_AFTER:
                yield from self.settle()
        self._block += lines
        if len(self._block) > _BLOCK_BYTES:
            del self._block[: len(self._block) - _BLOCK_BYTES]


def _lines_with(
    words: tuple[bytes, ...], lowered: bytes, before: re.Pattern[bytes] | None = None
) -> Iterator[tuple[int, int]]:
    """Begin and end of the lines with one of ``words`` in them, which comes before what matches ``before``."""
    for word in words:
        at = lowered.find(word)
        while at >= 0:
            after = at + len(word)
            if before is None or before.match(lowered, after):
                begin = lowered.rfind(b"\n", 0, at) + 1
                after = lowered.find(b"\n", at) + 1 or len(lowered)
                yield begin, after
            at = lowered.find(word, after)


def _after_lines(lines: bytes, count: int) -> int:
    """The position behind the first ``count`` lines, or the end."""
    position = 0
    for _ in range(count):
        end = lines.find(b"\n", position)
        if end < 0:
            return len(lines)
        position = end + 1
    return position

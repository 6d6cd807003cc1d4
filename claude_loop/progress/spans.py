"""Spans of time, begin and end in milliseconds: what of one lies within a range, and how long several are together."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]


def clipped(span: Span, since: int, until: int) -> Span | None:
    """The part within the range, both ends included; None if there is none."""
    begin, end = max(span[0], since), min(span[1], until)
    return (begin, end) if begin <= end else None


def total(spans: Iterable[Span]) -> int:
    """How long at least one of them lasted: what two share is counted once."""
    length = covered = 0
    for begin, end in sorted(spans):
        length += max(0, end - max(begin, covered))
        covered = max(covered, end)
    return length

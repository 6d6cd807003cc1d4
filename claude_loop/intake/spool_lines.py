"""Cutting pieces of a spool file into lines, in bounded memory whatever the file holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# A longer line is no event of ours: our emitters cut values long before.
MAX_LINE_BYTES = 1_048_576
# How much of a line that is too long is looked through at once: some ten milliseconds.
STRETCH_BYTES = 32 * 1024 * 1024
# How much of one is kept for the record of its rejection.
KEPT_OF_LONG_LINE = 2_048

Read = Callable[[int, int], bytes]


class Lines(NamedTuple):
    """``lines`` as ``(start, end, bytes)``, blank ones left out, ``end`` after the newline; ``upto`` is where the
    next read starts; ``too_long`` is a line beyond the limit, of which only the beginning is there."""

    lines: list[tuple[int, int, bytes]]
    upto: int
    too_long: tuple[int, int, bytes] | None = None


def read_lines(read: Read, start: int, end: int, piece: int, *, final: bool) -> Lines:
    """The lines within about ``piece`` bytes from ``start``, at least one if there is one before ``end``.

    ``read(offset, length)`` gives bytes. A line without its newline is left for later, unless ``final``: then
    what ends with the file is a line too.
    """
    data = read(start, min(piece, end - start))
    newline = data.rfind(b"\n")
    while newline < 0 and start + len(data) < end and len(data) <= MAX_LINE_BYTES:
        most = min(max(len(data), piece), MAX_LINE_BYTES + 1 - len(data), end - start - len(data))
        more = read(start + len(data), most)
        if not more:
            break
        newline = len(data) + more.rfind(b"\n") if b"\n" in more else -1
        data += more
    if newline >= 0:
        return Lines(_split(data[: newline + 1], start), start + newline + 1)
    if len(data) > MAX_LINE_BYTES:
        return _skip(read, data, start, end, final=final)
    if final and data and start + len(data) >= end:
        return Lines(_split(data, start), start + len(data))
    return Lines([], start)


def _split(data: bytes, start: int) -> list[tuple[int, int, bytes]]:
    lines = []
    at = start
    for line in data.split(b"\n"):
        following = at + len(line) + 1
        if line and not line.isspace():
            lines.append((at, following, line))
        at = following
    if lines and lines[-1][1] > start + len(data):  # no newline follows
        lines[-1] = (lines[-1][0], start + len(data), lines[-1][2])
    return lines


def _skip(read: Read, data: bytes, start: int, end: int, *, final: bool) -> Lines:
    """Past a line that is too long, without keeping it; nothing while its end has not been written.

    A line beyond all measure is passed in stretches, each a rejected record: the daemon must not stand still for it.
    """
    at = start + len(data)
    kept = data[:KEPT_OF_LONG_LINE]
    while at - start < STRETCH_BYTES and at < end and (piece := read(at, min(MAX_LINE_BYTES, end - at))):
        newline = piece.find(b"\n")
        if newline >= 0:
            return Lines([], at + newline + 1, (start, at + newline + 1, kept))
        at += len(piece)
    beyond_measure = at - start >= STRETCH_BYTES
    return Lines([], at, (start, at, kept)) if final or beyond_measure else Lines([], start)

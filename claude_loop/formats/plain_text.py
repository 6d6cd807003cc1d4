"""Terminal output as plain text: no colours, no cursor movements, no bars that were drawn over."""

from __future__ import annotations

import re

# Bounded repetitions: output may be anything, and a sequence without end must not take all the rest with it.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]{0,100}[ -/]{0,10}[@-~]"  # colours, cursor
    r"|\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)"  # titles, links
    r"|[PX^_][^\x1b\n]{0,2000}\x1b\\"  # other strings
    r"|[ -/]{0,10}[0-~])"
    r"|\x9b[0-?]{0,100}[ -/]{0,10}[@-~]"
)
# What programs colour their complaints with, alone: for short texts, in which other sequences are shown to be there.
COLOURS = "\x1b\\[[0-9;:]{0,40}[mK]"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Binary output: one mark for each stretch of it.
_MARKS = re.compile("\ufffd{2,}")
LONGEST_LINE = 2000


def plain(raw: bytes) -> str:
    """``raw``, cut at lines' ends if possible, as it would be read on the screen."""
    text = _without_sequences(raw.decode(errors="replace"))
    if "\r" in text:
        text = "\n".join(map(_as_overwritten, text.replace("\r\n", "\n").split("\n")))
    return _MARKS.sub("\ufffd", _CONTROLS.sub("", text))


def plain_line(line: str) -> str:
    """One line as it would be read on the screen, at most ``LONGEST_LINE`` of it."""
    text = _without_sequences(line.rstrip("\r\n"))
    return _CONTROLS.sub("", _as_overwritten(text))[:LONGEST_LINE]


def plain_lines(text: str) -> list[str]:
    """Lines end at newlines and carriage returns: a summary may stand behind the bar that it was drawn over."""
    flat = _without_sequences(text).replace("\r", "\n")
    return [_CONTROLS.sub("", line[:LONGEST_LINE]) for line in flat.split("\n")]


def _without_sequences(text: str) -> str:
    return _SEQUENCE.sub("", text) if "\x1b" in text or "\x9b" in text else text


def _as_overwritten(line: str) -> str:
    """What a carriage return leaves of a line: the last thing written from its beginning."""
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")

"""Terminal output as lines of plain text."""

from __future__ import annotations

import re

# CSI, OSC (titles, links) and two-character sequences; bounded, so that hostile input stays linear.
_ANSI = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
LONGEST_LINE = 2000


def strip_ansi(text: str) -> str:
    return _ANSI.sub("", text) if "\x1b" in text else text


def plain_line(line: str) -> str:
    """One line without colours, control characters and what a carriage return has overwritten."""
    text = strip_ansi(line.rstrip("\r\n"))
    return _CONTROL.sub("", text.rsplit("\r", 1)[-1])[:LONGEST_LINE]


def plain_lines(text: str) -> list[str]:
    """Lines end at newlines and carriage returns: a progress bar leaves the line that replaced it."""
    flat = strip_ansi(text).replace("\r", "\n")
    return [_CONTROL.sub("", line[:LONGEST_LINE]) for line in flat.split("\n")]

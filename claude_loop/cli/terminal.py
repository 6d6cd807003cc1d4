"""What may reach a terminal: colours where they are wanted, and never a control character from an event."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import IO

import click

# C0 and C1 controls, and the characters that reorder or hide text around them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_SPACES = re.compile(r"[\t\r\n]+")


def printable(text: object, limit: int = 500) -> str:
    """``text`` on one line, its control characters replaced, cut at ``limit`` characters."""
    line = _SPACES.sub(" ", str(text))
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return _UNSAFE.sub("\ufffd", line)


def wants_colour(stream: IO[str]) -> bool:
    """Colour only on a terminal, and not with ``NO_COLOR`` set or a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """Words for the person, which belong on stderr."""
    click.echo(text, err=True)


def clock_time(ms: int) -> str:
    """Local wall-clock time of day."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%H:%M:%S")


def day(ms: int) -> str:
    """Local date."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d")


def duration(ms: float) -> str:
    """``8s``, ``10m07s``, ``4h12m``, ``3d4h``."""
    seconds = round(ms / 1000)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h"


def plural(count: int, noun: str) -> str:
    """``1 story``, ``2 stories``, ``1 test``, ``2 tests``."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"

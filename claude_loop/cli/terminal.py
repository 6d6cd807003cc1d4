"""What may reach a terminal: colours where they are wanted, and never a control character from an event."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
import unicodedata
from datetime import datetime
from typing import IO

# Compiled where they are first used, which most commands never do.
# C0 and C1 controls, lone surrogates, and the characters that reorder or hide text around them.
_UNSAFE = (
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# The same in JSON text, where C0 controls are escaped already, and a line end may stand between values.
_UNSAFE_IN_JSON = _UNSAFE.replace("\x00-\x1f", "")
_SPACES = r"[\t\r\n]+"
# What our own symbols become where the terminal's encoding has none of them.
_PLAIN = {
    "▶": ">", "▷": ">", "✓": "+", "✗": "x", "●": "*", "⏸": "=", "■": "#", "⊘": "%", "☠": "X", "↻": "@", "○": "o",
    "·": "-", "…": "...", "“": '"', "”": '"', "’": "'", "×": "x", "–": "-", "—": "-",
}  # fmt: skip


def printable(text: object, limit: int = 500) -> str:
    """``text`` on one line, without colours, its control characters replaced, cut at ``limit`` characters."""
    line = str(text)
    if len(line) <= limit and line.isascii() and line.isprintable():  # nearly all
        return line
    if "\x1b" in line:
        from claude_loop.formats.plain_text import COLOURS

        line = re.sub(COLOURS, "", line)
    line = re.sub(_SPACES, " ", line)
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return re.sub(_UNSAFE, "\ufffd", line)


def harmless_json(text: str) -> str:
    """JSON ``text`` that says the same, with ``\\u…`` for what a terminal would obey."""
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(_UNSAFE_IN_JSON, lambda found: json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f", text)


def columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def write_anything(*streams: IO[str]) -> None:
    """Let ``streams`` take any text: what their encoding lacks is replaced by what it has, and never an error."""
    codecs.register_error("claude_loop.plain", _plain)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):  # else it takes text as text
            stream.reconfigure(errors="claude_loop.plain")


def _plain(failure: UnicodeError) -> tuple[str, int]:
    if not isinstance(failure, UnicodeEncodeError):
        raise failure
    lacking = failure.object[failure.start : failure.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), failure.end


def write_json_to(stream: IO[str]) -> None:
    """JSON is UTF-8 wherever it goes, whatever the terminal's encoding."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8")


def wants_colour(stream: IO[str]) -> bool:
    """Colour only on a terminal, and not with ``NO_COLOR`` set or a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def put(text: str) -> None:
    """A line of what was asked for, on stdout."""
    # Not `click.echo`: it writes UTF-8 to a terminal that takes none.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def put_json(value: object, indent: int | None = None) -> None:
    """JSON on stdout."""
    write_json_to(sys.stdout)
    put(harmless_json(json.dumps(value, ensure_ascii=False, indent=indent)))


def note(text: str) -> None:
    """Words for the person, which belong on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def clock_time(ms: int) -> str:
    """Local wall-clock time of day."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%H:%M:%S")


def day(ms: int) -> str:
    """Local date."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d")


def local_time(text: str) -> str:
    """An RFC 3339 time as this machine's date and time; what is none stays as it is, and may hold anything."""
    from claude_loop.clock import parse_time

    try:
        ms = parse_time(text) // 1000
    except ValueError:
        return text
    return f"{day(ms)} {clock_time(ms)}"


def duration(ms: float) -> str:
    """``8s``, ``10m07s``, ``4h12m``, ``3d4h``: whole seconds that have passed, as on the page."""
    seconds = int(ms // 1000)
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

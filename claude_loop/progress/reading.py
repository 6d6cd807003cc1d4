"""Reading what an event says, whatever its ``data`` holds.

Known types are validated at the door, but a spooled event that failed its model is kept and marked, so nothing here
may trust a type, and nothing raises: what cannot be read is None.
"""

from __future__ import annotations

import re
from typing import Any

from claude_loop.clock import parse_time
from claude_loop.events import Event
from claude_loop.formats.plain_text import COLOURS
from claude_loop.id_rules import COMMIT_PATTERN, MAX_ID_LENGTH

LONGEST_NAME = 80
LONGEST_TEXT = 300
_COMMIT = re.compile(COMMIT_PATTERN)
_LARGEST = 2**53  # beyond it JSON numbers lose digits in a browser


def moment_of(event: Event) -> int:
    """When the event happened, in milliseconds, but never later than it was received."""
    at, received_at = event.at, event.received_at
    return received_at if 0 < received_at < at else at


def text(data: dict[str, Any], key: str, longest: int = LONGEST_TEXT) -> str | None:
    """One line of at most ``longest`` characters; None if there is nothing to show."""
    return line(data.get(key), longest)


def line(value: Any, longest: int) -> str | None:
    if type(value) is not str:
        return None
    # Cut before looking for blanks: the value may have 64 KiB.
    value = value[: longest * 4]
    if "\x1b" in value:
        value = re.sub(COLOURS, "", value)  # a card or a message to a phone has no use for them
    value = " ".join(value.split())
    if len(value) > longest:
        value = value[: longest - 1] + "…"
    return value or None


def commit_hash(data: dict[str, Any]) -> str | None:
    value = data.get("commit_hash")
    return value if type(value) is str and _COMMIT.fullmatch(value) else None


def identifier(value: Any) -> str | None:
    """An id as the envelope would take it."""
    return value if type(value) is str and 0 < len(value) <= MAX_ID_LENGTH else None


def count(data: dict[str, Any], key: str) -> int | None:
    """A whole number from 0 to 2⁵³."""
    value = data.get(key)
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def whole(data: dict[str, Any], key: str) -> int | None:
    """A whole number of either sign, such as an exit code."""
    value = data.get(key)
    return value if type(value) is int and -_LARGEST <= value <= _LARGEST else None


def number(data: dict[str, Any], key: str) -> float | None:
    """A number from 0 to 2⁵³, whole or not."""
    value: Any = data.get(key)
    return value if type(value) in (int, float) and 0 <= value <= _LARGEST else None


def time_ms(data: dict[str, Any], key: str) -> int | None:
    """A moment in milliseconds, from RFC 3339 text or a number of seconds or milliseconds."""
    value = data.get(key)
    if type(value) not in (str, int, float):
        return None
    try:
        return parse_time(value) // 1000  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return None


def outcome(data: dict[str, Any]) -> bool | None:
    """What ``success`` says, or else ``status``; None if neither can be read."""
    success = data.get("success")
    if success is True or success == "true":
        return True
    if success is False or success == "false":
        return False
    return {"completed": True, "failed": False}.get(str(data.get("status")))

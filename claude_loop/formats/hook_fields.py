"""Fields of a hook's payload, read leniently: what is not of the expected kind is as good as absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# What people read in one line.
SUMMARY_CHARACTERS = 200
# Texts that are lifted out of the payload: the payload itself is kept beside them, and both must fit.
TEXT_CHARACTERS = 8_192
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_UNKNOWN_TOOL = "unknown"

Payload = Mapping[str, Any]


class Draft(NamedTuple):
    """An event to be: its type and data. ``part`` tells the facts found in one payload from its main event, which has
    none."""

    type: str
    data: dict[str, Any]
    part: str = ""


def text(payload: Payload, *keys: str) -> str | None:
    """The first of these fields that is a text with something in it."""
    for key in keys:
        value = payload.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return None


def mapping(payload: Payload, key: str) -> Payload:
    value = payload.get(key)
    return value if isinstance(value, dict) else {}


def rows(payload: Payload, key: str) -> list[Payload]:
    """The objects in a list."""
    value = payload.get(key)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def number(payload: Payload, key: str) -> float | None:
    value = payload.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= 2**53 else None


def long_text(payload: Payload, *keys: str) -> str | None:
    """As ``text``, cut with a mark where it is very long."""
    value = text(payload, *keys)
    if value is None or len(value) <= TEXT_CHARACTERS:
        return value
    return f"{value[:TEXT_CHARACTERS]}…[{len(value) - TEXT_CHARACTERS} characters cut]"


def one_line(value: str, limit: int = SUMMARY_CHARACTERS) -> str:
    """``value`` without line ends, at most ``limit`` characters."""
    line = _BLANKS.sub(" ", value[: 8 * limit]).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def present(**fields: Any) -> dict[str, Any]:
    """``fields`` without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def tool_name(payload: Payload) -> str:
    return one_line(text(payload, "tool_name") or _UNKNOWN_TOOL)


def command(tool_input: Payload) -> str | None:
    """The command line of a shell's call, which some agents give as a list."""
    value = tool_input.get("command", tool_input.get("cmd"))
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        is_shell = len(value) == 3 and value[1] in ("-c", "-lc")
        value = value[2] if is_shell else " ".join(value)
    return value if isinstance(value, str) and value.strip() else None


def summary(payload: Payload) -> str:
    """What a call is about, in one line: `pytest -q`, `src/cart.py`, `grep TODO`."""
    name, given = tool_name(payload), mapping(payload, "tool_input")
    return one_line(_summary(name, given, text(payload, "cwd") or ""))


def _summary(name: str, given: Payload, cwd: str) -> str:  # noqa: PLR0911 - a table
    if name == "apply_patch":
        patched = _PATCHED.findall(text(given, "command", "input", "patch") or "")
        return ", ".join(_near(path, cwd) for path in patched[:4])
    if (line := command(given)) is not None:
        return line
    if name in ("Grep", "Glob") and (pattern := text(given, "pattern")):
        where = text(given, "path")
        return f"{name.lower()} {pattern}" + (f" in {_near(where, cwd)}" if where else "")
    if path := text(given, "file_path", "notebook_path", "path"):
        return _near(path, cwd)
    if asked := rows(given, "questions"):
        return text(asked[0], "question") or ""
    if (todos := given.get("todos", given.get("plan"))) is not None and isinstance(todos, list):
        return f"{len(todos)} entries"
    first = text(given, "description", "query", "url", "subject", "skill", "prompt", "message")
    return first or next((value for value in given.values() if isinstance(value, str) and value.strip()), "")


def _near(path: str, cwd: str) -> str:
    """``path`` as seen from ``cwd``, if it lies there."""
    inside = cwd.rstrip("/") + "/"
    return path[len(inside) :] if len(inside) > 1 and path.startswith(inside) and path != inside else path

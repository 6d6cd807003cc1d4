"""What can still be known of a payload of which only the begin and the end are left, or that was torn off."""

from __future__ import annotations

import json
import re
from typing import Any

from claude_loop.json_text import without_surrogates

CUT = "_cut"
_END_FIELDS = re.compile(
    r'(?<!\\)"(session_id|hook_event_name|tool_name|tool_use_id|agent_id)"\s*:\s*"([^"\\]{1,200})"'
    r'|(?<!\\)"(duration_ms)"\s*:\s*(\d{1,15})(?![\d.])'
)
_TORN_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|"', re.DOTALL)
_LAST_KEY = re.compile(r',?\s{0,64}"(?:[^"\\]|\\.)*"\Z')
_CLOSING = {"{": "}", "[": "]"}
# No agent's payload is nested deeper.
_LEVELS = 200


def _integer(digits: str) -> int | str:
    """Beyond 64 bits the digits: no such integer is stored."""
    value = int(digits) if len(digits) <= 20 else 2**64
    return value if -(2**63) <= value < 2**64 else digits


_DECODER = json.JSONDecoder(strict=False, parse_int=_integer)


def is_cut(payload: dict[str, Any]) -> bool:
    return len(payload) == 1 and isinstance(payload.get(CUT), dict)


def recover(payload: dict[str, Any]) -> dict[str, Any]:
    """The fields that are whole, and the begin of a text that is not; `_cut` stays as the mark of it."""
    begin, end = (payload[CUT].get(key) for key in ("begin", "end"))
    known = _begun(begin) if isinstance(begin, str) else {}
    if isinstance(end, str):
        for name, value, count, digits in _END_FIELDS.findall(end):
            known.setdefault(name or count, value if name else int(digits))
    if known:
        return {**known, CUT: True}
    return {"text": begin if isinstance(begin, str) else "", CUT: True}


def _begun(begin: str) -> dict[str, Any]:
    """An object from JSON that stops anywhere: closed where it stops, or else behind its last whole value."""
    for attempt in _closed(begin):
        try:
            value = without_surrogates(_DECODER.decode(attempt))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def _closed(begin: str) -> list[str]:
    """``begin`` with an end that may make it JSON, the one that keeps most first."""
    stack: list[str] = []
    whole = (0, "")
    for token in _TOKEN.finditer(begin):
        kind = token[0]
        closers = "".join(reversed(stack))
        if kind == '"':  # a text that does not end
            return [_TORN_ESCAPE.sub("", begin) + '"' + closers, *_up_to(begin, *whole)]
        if kind in _CLOSING:
            stack.append(_CLOSING[kind])
        elif kind in ("}", "]") and (not stack or stack.pop() != kind):
            return []
        if len(stack) > _LEVELS:
            return []
        whole = (token.end(), "".join(reversed(stack)))
    return _up_to(begin, *whole)


def _up_to(begin: str, end: int, closers: str) -> list[str]:
    """Without what follows the last whole part; a key that has no value goes too, with the comma in front."""
    return [begin[:end] + closers, _LAST_KEY.sub("", begin[:end]) + closers]

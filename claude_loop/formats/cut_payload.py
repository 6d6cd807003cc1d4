"""What can still be known of a payload of which only the begin and the end are left, or that was torn off."""

from __future__ import annotations

import json
import re
from typing import Any

CUT = "_cut"
_END_FIELDS = re.compile(
    r'(?<!\\)"(session_id|hook_event_name|tool_name|tool_use_id|agent_id)"\s*:\s*"([^"\\]{1,200})"'
    r'|(?<!\\)"(duration_ms)"\s*:\s*(\d{1,15})(?![\d.])'
)
_TORN_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|"', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
# No agent's payload is nested deeper.
_LEVELS = 200
_DECODER = json.JSONDecoder(strict=False)


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
    stack: list[str] = []
    whole: tuple[int, str] | None = None
    torn: int | None = None
    for token in _TOKEN.finditer(begin):
        kind = token[0]
        if kind in _CLOSING:
            stack.append(_CLOSING[kind])
            if len(stack) > _LEVELS:
                return {}
        elif kind in ("}", "]"):
            if not stack or stack.pop() != kind:
                return {}
        elif kind == '"':
            torn = token.start()
            break
        whole = (token.end(), "".join(reversed(stack)))
    if whole is None:
        return {}
    closers = "".join(reversed(stack))
    attempts = [] if torn is None else [_TORN_ESCAPE.sub("", begin) + '"' + closers]
    attempts.append(begin[: whole[0]] + whole[1])
    # What ends with a key has no value for it: it goes, with the comma in front.
    before_key = re.sub(r',?\s*"(?:[^"\\]|\\.)*"\Z', "", begin[: whole[0]])
    attempts.append(before_key + whole[1])
    for attempt in attempts:
        try:
            value = _DECODER.decode(attempt)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}

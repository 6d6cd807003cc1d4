"""The rules of the envelope: what every event must look like, whatever its type. Written by hand, for speed."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from claude_loop.clock import parse_time
from claude_loop.errors import InvalidEvent, UnknownField
from claude_loop.events import ENVELOPE_KEYS
from claude_loop.id_rules import ID_PATTERN, MAX_ID_LENGTH, MAX_TYPE_LENGTH, TYPE_PATTERN
from claude_loop.intake.wide_integers import WideInteger
from claude_loop.payloads import nearest

_TYPE = re.compile(TYPE_PATTERN)
_ID = re.compile(ID_PATTERN)
# Names people try first.
_MEANT = {
    "data_json": "data",
    "event": "type",
    "event_id": "id",
    "event_type": "type",
    "payload": "data",
    "prd": "prd_id",
    "run": "run_id",
    "session": "session_id",
    "story": "story_id",
    "time": "timestamp",
    "ts": "timestamp",
}


def shown(value: object) -> str:
    """A value for an error's text: one line, at most some 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if not isinstance(value, str) else value.encode("unicode_escape").decode()
    return text if len(text) <= 60 else text[:59] + "…"


def unknown_key(raw: dict[str, Any]) -> UnknownField:
    """The refusal of the first key that is not the envelope's."""
    key = next(key for key in raw if key not in ENVELOPE_KEYS)
    hint = None
    if key in ("seq", "received_at"):
        hint = f"The log sets `{key}`: leave it out."
    elif key in _MEANT:
        hint = f"Did you mean `{_MEANT[key]}`? Fields of your own go under `data`."
    name = shown(key)
    return UnknownField(f"`{name}` is not a key of the envelope.", field=name, hint=hint)


def check_type(value: object) -> None:
    """Raises ``InvalidEvent`` unless ``value`` can be an event's type."""
    if isinstance(value, str) and len(value) <= MAX_TYPE_LENGTH and _TYPE.match(value):
        return
    if value is None:
        raise InvalidEvent("`type` is missing.", field="type", hint="For example `story.started`.")
    if not isinstance(value, str):
        raise InvalidEvent(f"`type` must be a string, not {shown(value)}.", field="type")
    if len(value) > MAX_TYPE_LENGTH:
        raise InvalidEvent(f"`type` has {len(value)} characters; the limit is {MAX_TYPE_LENGTH}.", field="type")
    meant = value.strip().lower().replace(":", ".").replace(" ", "_")
    meant = nearest(meant) or meant
    hint = f"Did you mean `{meant}`?" if _TYPE.match(meant) else "Types are dotted lower case, such as `story.started`."
    raise InvalidEvent(f"`type` “{shown(value)}” is not dotted lower case.", field="type", hint=hint)


def check_id(key: str, value: object) -> None:
    """Raises ``InvalidEvent`` unless ``value`` can be an id: 1 to 128 printable characters."""
    if isinstance(value, str) and value.__class__ is not WideInteger:
        # The first test decides nearly always; the pattern is the rule.
        if 0 < len(value) <= MAX_ID_LENGTH and ((value.isascii() and value.isprintable()) or _ID.match(value)):
            return
        if not value:
            raise InvalidEvent(f"`{key}` is empty.", field=key, hint=f"Leave `{key}` out when there is none.")
        if len(value) > MAX_ID_LENGTH:
            message = f"`{key}` has {len(value)} characters; the limit is {MAX_ID_LENGTH}."
            raise InvalidEvent(message, field=key, hint="Put long text under `data`.")
        raise InvalidEvent(f"`{key}` has control characters: “{shown(value)}”.", field=key, hint="Remove them.")
    raise InvalidEvent(f"`{key}` must be a string, not {shown(value)}.", field=key, hint='Quote it: "7", not 7.')


@lru_cache(maxsize=256)
def _second_us(text: str) -> int:
    return parse_time(text)


def time_us(value: object) -> int:
    """``timestamp`` as microseconds since the epoch. Raises ``InvalidEvent``."""
    try:
        if isinstance(value, str):
            # What our emitters write: the second is the same for many events.
            if len(value) == 27 and value[19] == "." and value[26] == "Z":
                fraction = value[20:26]
                if fraction.isdigit():
                    return _second_us(value[:19]) + int(fraction)
            return parse_time(value)
        if isinstance(value, int | float):
            return parse_time(value)
    except (ValueError, OverflowError):
        pass
    hint = "Use RFC 3339, such as 2026-01-26T12:00:00.000Z, or seconds since the epoch as a number."
    raise InvalidEvent(f"`timestamp` {shown(value)} is not a time.", field="timestamp", hint=hint)


def data_object(raw: dict[str, Any]) -> dict[str, Any]:
    """``data``, empty when absent. Raises ``InvalidEvent``."""
    value = raw.get("data")
    if value.__class__ is dict:
        return value
    if value is None:
        return {}
    raise InvalidEvent(f"`data` must be an object, not {shown(value)}.", field="data", hint='For example {"n": 1}.')

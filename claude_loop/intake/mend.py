"""Mending an event that nobody can be told to send again: what can be kept is kept, and marked."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from claude_loop.errors import InvalidEvent, InvalidJson
from claude_loop.events import ENVELOPE_KEYS, ID_KEYS
from claude_loop.intake.envelope import check_id, check_type, time_us
from claude_loop.intake.wide_integers import decimal, integer
from claude_loop.json_text import without_surrogates

EXTRA = "_extra"
INVALID = "_invalid"
# The type under which an event without a usable type is kept.
NO_TYPE = "invalid.event"


class Mended(NamedTuple):
    """``envelope`` keeps the rules; what did not is in ``extra``, and why in ``reasons``."""

    envelope: dict[str, Any]
    data: dict[str, Any]
    extra: dict[str, Any]
    reasons: list[str]


def loads_leniently(line: bytes) -> Any:
    """JSON as careless senders write it: invalid UTF-8 and lone surrogates become U+FFFD, raw control characters in
    strings and a byte order mark pass, numbers that do not fit become strings.

    Raises ``InvalidJson``.
    """
    text = line.decode(errors="replace").removeprefix("\ufeff")
    try:
        return without_surrogates(_CARELESS.decode(text.strip()))
    except ValueError as failure:
        raise InvalidJson(f"The line is not JSON: {failure}.") from None
    except RecursionError:
        raise InvalidJson("The line is not JSON that can be read: it is nested too deeply.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")


_CARELESS = json.JSONDecoder(strict=False, parse_constant=_refuse_constant, parse_int=integer, parse_float=decimal)


def mend(raw: dict[str, Any]) -> Mended:
    """Sort an event's parts into what keeps the envelope's rules and what does not."""
    extra = {key: value for key, value in raw.items() if key not in ENVELOPE_KEYS}
    envelope: dict[str, Any] = {}
    reasons: list[str] = []
    for key, value in raw.items():
        if key in ENVELOPE_KEYS and key != "data" and value is not None:
            try:
                _check(key, value)
                envelope[key] = value
            except InvalidEvent as refusal:
                reasons.append(refusal.message)
                extra[key] = value
    data = raw.get("data")
    if data is not None and not isinstance(data, dict):
        reasons.append("`data` is not an object.")
        extra["data"] = data
        data = None
    if "type" not in envelope:
        if raw.get("type") is None:
            reasons.append("`type` is missing.")
        if data:
            extra["data"] = data
        envelope["type"], data = NO_TYPE, None
    return Mended(envelope, data or {}, extra, reasons)


def _check(key: str, value: object) -> None:
    if key == "type":
        check_type(value)
    elif key == "timestamp":
        time_us(value)
    elif key in ID_KEYS or key in ("id", "source"):
        check_id(key, value)


def marked(data: dict[str, Any], extra: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """``data`` with its marks; marks of the sender's own are kept among them."""
    if extra:
        data = {**data, EXTRA: {**_as_object(data.get(EXTRA)), **extra}}
    if reasons:
        own = data.get(INVALID, [])
        data = {**data, INVALID: [*(own if isinstance(own, list) else [own]), *reasons]}
    return data


def _as_object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return value if isinstance(value, dict) else {EXTRA: value}

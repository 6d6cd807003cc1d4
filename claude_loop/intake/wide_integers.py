"""Integers beyond 64 bits. The quick parser makes floats of them: digits are lost, and two of them become one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from math import isfinite
from typing import Any

import orjson

from claude_loop.errors import InvalidEvent

_LEAST, _BEYOND = -(2**63), 2**64
# What lies in between fits; nothing beyond it has fewer digits.
_MOST_DIGITS = 20
# Deeper than `limits.data_depth` can be, and within what Python's own calls can.
_LEVELS = 200


class WideInteger(str):
    """The digits of an integer beyond 64 bits."""

    __slots__ = ()


def integer(digits: str) -> int | WideInteger:
    """What a number without point and exponent is."""
    if len(digits) > _MOST_DIGITS:
        return WideInteger(digits)
    value = int(digits)
    return value if _LEAST <= value < _BEYOND else WideInteger(digits)


def decimal(digits: str) -> float | str:
    """What any other number is: its text, where a float cannot hold it."""
    value = float(digits)
    return value if isfinite(value) else digits


_EXACT = json.JSONDecoder(parse_int=integer, parse_float=decimal)


def loads(text: str | bytes) -> Any:
    """As ``orjson.loads``, with a ``WideInteger`` for each integer beyond 64 bits."""
    value = orjson.loads(text)
    if not may_be_wide(value):
        return value
    try:
        return _EXACT.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:  # refused for its depth, whatever its numbers are
        return value


def may_be_wide(value: Any, levels: int = _LEVELS) -> bool:
    """Whether what the quick parser made of a text has a float that may have been such an integer."""
    kind = value.__class__
    if kind is float:
        return not _LEAST <= value < _BEYOND
    if kind is not dict and kind is not list:
        return False
    for inner in value.values() if kind is dict else value:
        kind = inner.__class__
        if (kind is float or ((kind is dict or kind is list) and levels)) and may_be_wide(inner, levels - 1):
            return True
    return False


def paths(value: Any, path: str, levels: int = _LEVELS) -> Iterator[str]:
    """Where in ``value``, which is at ``path``, there is an integer beyond 64 bits."""
    if isinstance(value, WideInteger) or (isinstance(value, int) and not _LEAST <= value < _BEYOND):
        yield path
    elif isinstance(value, dict | list) and levels:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from paths(inner, f"{path}.{key}" if path else str(key), levels - 1)


def refuse(data: Any) -> None:
    """Raises ``InvalidEvent`` for the first integer beyond 64 bits in ``data``."""
    path = next(paths(data, "data"), None)
    if path is not None:
        hint = "Send it as a string: most readers would lose digits of the number."
        raise InvalidEvent(f"`{path[:200]}` is an integer beyond 64 bits.", field=path[:200], hint=hint)


def refuse_in_line(raw: dict[str, Any], line: bytes) -> None:
    """As ``refuse``, for what the quick parser made of ``line``."""
    data = raw.get("data")
    if data.__class__ is not dict:
        return
    for value in data.values():
        kind = value.__class__
        # Nearly all are text or whole numbers that fit.
        if kind is not str and kind is not int and may_be_wide(value):
            refuse(loads(line)["data"])
            return


def reasons(raw: Any) -> list[str]:
    """What to say of those in an event that is kept all the same; of a few of many."""
    return [f"`{path[:200]}` is an integer beyond 64 bits: kept as text." for path in islice(paths(raw, ""), 5)]


def as_text(value: Any, levels: int = _LEVELS) -> Any:
    """``value`` as it will be read back from the log: with plain text for each ``WideInteger``.

    Whoever asks for text by its exact class would take the two for different things, now and after a rebuild.
    """
    if isinstance(value, WideInteger):
        return str(value)
    if isinstance(value, dict) and levels:
        return {key: as_text(inner, levels - 1) for key, inner in value.items()}
    if isinstance(value, list) and levels:
        return [as_text(inner, levels - 1) for inner in value]
    return value

"""Numbers, booleans and times as the known payloads take them: strictly, and as the text in which scripts send them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, ValidationError

from claude_loop.clock import parse_time
from claude_loop.errors import InvalidEvent

_WHOLE = re.compile(r"-?[0-9]{1,16}\Z")
# `bc` writes .5, and many digits.
_NUMBER = re.compile(r"-?(?:[0-9]{1,17}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?\Z")


def whole(value: Any) -> Any:
    """Decimal digits as a number, and a float without a fraction, which is JSON's way of writing the same; anything
    else is the model's to judge."""
    if value.__class__ is str:
        return int(value) if _WHOLE.match(value) else value
    return int(value) if value.__class__ is float and value.is_integer() and abs(value) < 1e16 else value


def _number(value: Any) -> Any:
    if value.__class__ is not str or not _NUMBER.match(value):
        return value
    return int(value) if _WHOLE.match(value) else float(value)


def _flag(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)


def _time(value: Any) -> Any:
    """As the envelope's `timestamp`; left as it was sent, but for a number that came as text."""
    if value is None:
        return None
    value = _number(value)
    try:
        parse_time(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEvent(
            f"`until` {value!r:.60} is not a time.",
            field="data.until",
            hint="Use RFC 3339, such as 2026-01-26T12:00:00.000Z, or seconds since the epoch as a number.",
        ) from None
    return value


# Strict, with other forms read apart (`reread`): a function of ours in each field would cost more than all the rest.
Whole = Annotated[int, Strict()]
LARGEST_COUNT = 2**53
Count = Annotated[Whole, Field(ge=0, le=LARGEST_COUNT)]
# JSON has no infinities: readers would see null.
_Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Number = Whole | _Finite
Amount = Annotated[_Finite, Field(ge=0)]
Flag = Annotated[bool, Strict()]
# The only field of this kind is `until`, of types that have it at their top.
Until = Annotated[str | int | float | None, BeforeValidator(_time)]

_READ = frozenset((str, float))
# What is wrong, by the beginning of pydantic's name for it: how text is read that may be right, and what to send.
_READERS: dict[str, Callable[[Any], Any]] = {"int": whole, "float": _number, "bool": _flag}
_HINTS = {
    "int": "It takes a whole number, such as 12; its digits as text will do.",
    "float": "It takes a number, such as 1.5; its digits as text will do.",
    "finite": "It takes a number, such as 1.5.",
    "bool": "It takes true or false.",
    "string": "It takes text.",
    "list": "It takes a list.",
}


def reread(data: dict[str, Any], failure: ValidationError) -> dict[str, Any] | None:
    """``data`` with the numbers and booleans that came in another form; None if it is not that which failed."""
    changed = None
    for error in failure.errors(include_url=False, include_context=False):
        reader, sent = _READERS.get(_kind(error["type"])), error["input"]
        value = reader(sent) if reader is not None and sent.__class__ in _READ else sent
        if value is not sent:
            changed = copy.deepcopy(data) if changed is None else changed
            *parents, key = place_of(changed, error["loc"])
            holder: Any = changed
            for parent in parents:
                holder = holder[parent]
            holder[key] = value
    return changed


def place_of(data: dict[str, Any], location: Sequence[int | str]) -> list[Any]:
    """Where in ``data`` that is: pydantic goes on with the name of the type where there is a choice of several."""
    place: list[Any] = []
    value: Any = data
    for part in location:
        place.append(part)
        value = value.get(part) if isinstance(value, dict) else value[part]
        if not isinstance(value, dict | list):
            break
    return place


def hint_of(error_type: str) -> str | None:
    return _HINTS.get(_kind(error_type))


def _kind(error_type: str) -> str:
    return error_type.partition("_")[0]

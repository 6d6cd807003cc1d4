"""The query part of a URL, read against the parameters a route declares: nothing is ignored, everything is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from claude_loop.errors import InvalidCursor, InvalidFilter, InvalidRequest
from claude_loop.filters import FILTER_KEYS, MATCH_ALL, MAX_STARS, MAX_VALUE_LENGTH, MAX_VALUES, Filter
from claude_loop.ids import CURSOR_PATTERN, Cursor
from claude_loop.subscription import NOW, Start
from claude_loop.transports.http_endpoint import Parameter

_VALUE = {"type": "string", "minLength": 1, "maxLength": MAX_VALUE_LENGTH}
_TYPE = {**_VALUE, "pattern": rf"^([^*]*\*){{0,{MAX_STARS}}}[^*]*$"}
# From 1970 on. What it does not say, such as how many days a month has, the format does.
TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^(19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}",
}
_SECONDS = {"type": "string", "pattern": r"^[0-9]{1,11}(\.[0-9]{1,6})?$"}
_SAID = {
    "type": "string",
    "pattern": r"^([0-9]{1,9}[smhdw]|([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?)$",
}
_DATE = {"type": "string", "format": "date", "pattern": r"^(19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}$"}
SAID_TIME = {"anyOf": [TIME, _DATE, _SECONDS, _SAID]}
_CURSOR = {"type": "string", "pattern": f"^{CURSOR_PATTERN}$"}
FILTER_PARAMETERS = tuple(
    Parameter(key.attribute, key.selects, repeats=MAX_VALUES, schema=_TYPE if key.name == "types" else _VALUE)
    for key in FILTER_KEYS.values()
)
FROM = Parameter(
    "from",
    "Where to begin: `now`, `start`, `last:N`, `since:TIME` or a cursor; "
    'as JSON too: `{"last": N}`, `{"since": TIME}`.',
)
PROJECT = Parameter("project", "Needed when several projects have a PRD of this name; empty for the one without.")
AFTER = Parameter("after", "A cursor: only what follows it.", schema=_CURSOR)
BEFORE = Parameter("before", "A cursor: only what leads up to it, the event at the cursor included.", schema=_CURSOR)
MAX_TEXT = 200

_FROM_HINT = "Use `now`, `start`, `last:20`, `since:2026-01-26T12:00:00Z` or a cursor the server gave you, unchanged."


class Query:
    """The parameters of one request. Raises ``InvalidRequest`` for any that the route does not declare."""

    def __init__(self, request: web.Request, declared: Sequence[Parameter]) -> None:
        self._given = request.query
        if not self._given:
            return
        repeatable = {parameter.name: parameter.repeats for parameter in declared}
        for name in self._given:
            shown = name[:60].encode("unicode_escape").decode()
            if name not in repeatable:
                raise InvalidRequest(f"`{shown}` is not a parameter here.", field=shown, hint=_takes(declared))
            if not repeatable[name] and len(self._given.getall(name)) > 1:
                raise InvalidRequest(f"`{name}` is given more than once.", field=name, hint="Give it once.")

    def text(self, name: str) -> str | None:
        return self._given.get(name)

    def short_text(self, name: str, longest: int) -> str | None:
        """Like ``text``, with 1 to ``longest`` characters."""
        text = self._given.get(name)
        if text is not None and not 0 < len(text) <= longest:
            raise InvalidRequest(f"`{name}` has 1 to {longest} characters.", field=name)
        return text

    def filter(self) -> Filter:
        """The filter parameters together. Raises ``InvalidFilter`` naming the parameter."""
        if not self._given:
            return MATCH_ALL
        names = {key.attribute: key.name for key in FILTER_KEYS.values() if key.attribute in self._given}
        wanted = {name: self._given.getall(name) for name in names}
        for name, values in wanted.items():
            if len(values) > MAX_VALUES:
                message = f"`{name}` is given {len(values)} times; at most {MAX_VALUES} are taken."
                raise InvalidFilter(message, field=name, hint="Use a glob, or several requests.")
            if any(not value or len(value) > MAX_VALUE_LENGTH for value in values):
                message = f"`{name}` has 1 to {MAX_VALUE_LENGTH} characters."
                raise InvalidFilter(message, field=name, hint="Leave it out to see everything.")
        return Filter.parse({names[name]: values for name, values in wanted.items()})

    def cursor(self, name: str) -> Cursor | None:
        """Raises ``InvalidCursor``."""
        text = self._given.get(name)
        return None if text is None else named_cursor(text, name)

    def start(self, default: Start = NOW) -> Start:
        """`from`. Raises ``InvalidCursor``."""
        text = self._given.get("from")
        if text is None:
            return default
        try:
            return Start.parse(_from_forms(text))
        except InvalidCursor as refusal:
            if refusal.field != "from":
                raise
            raise InvalidCursor(refusal.message, hint=_FROM_HINT, field="from") from None

    def whole_number(self, name: str, default: int, least: int, most: int) -> int:
        text = self._given.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
            raise InvalidRequest(f"`{name}` is a whole number from {least} to {most}.", field=name)
        return int(text)

    def one_of(self, name: str, values: Sequence[str]) -> str:
        """The first of ``values`` is the default."""
        text = self._given.get(name, values[0])
        if text not in values:
            raise InvalidRequest(f"`{name}` is {' or '.join(values)}.", field=name)
        return text


def named_cursor(text: str, field: str) -> Cursor:
    """Raises ``InvalidCursor`` for ``field``."""
    try:
        return Cursor.parse(text)
    except InvalidCursor as refusal:
        raise InvalidCursor(refusal.message, hint="Use a cursor the server gave you, unchanged.", field=field) from None


def _from_forms(text: str) -> Any:
    """`last:20` and `since:TIME` are easier to type than the JSON they stand for."""
    word, colon, value = text.partition(":")
    if colon and word == "last" and value.isascii() and value.isdigit() and len(value) <= 9:
        return {"last": int(value)}
    if colon and word == "since":
        return {"since": _number(value)}
    if text.startswith("{"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as failure:
            raise InvalidCursor(f"`from` is not JSON: {failure.msg}.", field="from") from None
    return text


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _takes(declared: Sequence[Parameter]) -> str:
    return f"It takes {', '.join(parameter.name for parameter in declared)}." if declared else "It takes none."


def choice_schema(values: Sequence[str]) -> Mapping[str, Any]:
    return {"type": "string", "enum": list(values), "default": values[0]}


def number_schema(least: int, most: int, default: int) -> Mapping[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "default": default}


def text_schema(longest: int) -> Mapping[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest}

"""JSON answers, made of bytes that already are JSON wherever an event is part of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import hdrs, web

from claude_loop.events import Event

_JSON = "application/json"


def json_bytes(body: bytes, status: int = 200) -> web.Response:
    """An answer whose body is JSON already."""
    return web.Response(body=body, status=status, headers={hdrs.CONTENT_TYPE: _JSON})


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Any JSON value as an answer. Raises ``TypeError`` for what is none."""
    return json_bytes(orjson.dumps(value), status)


def joined(events: Iterable[Event]) -> str:
    """The events' stored JSON, comma between them: an event is never encoded a second time."""
    return ",".join([event.json for event in events])

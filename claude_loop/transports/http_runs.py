"""`GET /api/runs/{id}/output`: what a wrapped run has printed, page by page."""

from __future__ import annotations

from typing import NotRequired

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from claude_loop.errors import InvalidRequest
from claude_loop.events import Event
from claude_loop.filters import MAX_VALUE_LENGTH, Filter
from claude_loop.hub import Hub
from claude_loop.ids import Cursor
from claude_loop.subscription import Reset, Start
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_events import ResetJson
from claude_loop.transports.http_json import json_bytes
from claude_loop.transports.http_query import AFTER, Query, number_schema, text_schema

MAX_LIMIT = 500
DEFAULT_LIMIT = 100
_MOST_ITERATION = 10**9 - 1
# The log is read in pieces of this size; those of other iterations are passed over.
_STEP = 250
# A page ends early rather than hold more than this.
_PAGE_BYTES = 4 * 1024 * 1024
# Nor does one request look at more chunks than these; `more` and the cursor say where to go on.
_MOST_LOOKED_AT = 5_000

_ITERATION = {"type": "integer", "minimum": 0, "maximum": _MOST_ITERATION}
RUN_ID = text_schema(MAX_VALUE_LENGTH)
OUTPUT_QUERY = (
    Parameter("iteration", "Only what this iteration printed.", schema=_ITERATION),
    AFTER,
    Parameter("limit", "How many chunks at most.", schema=number_schema(1, MAX_LIMIT, DEFAULT_LIMIT)),
)


class OutputChunk(TypedDict):
    """A piece of output, at line ends where possible. ``at`` is in milliseconds since the epoch; ``left_out`` says how
    many of the ``bytes`` from ``offset`` on are not in ``text``, because the iteration printed too much."""

    seq: int
    at: int
    iteration: int | None
    text: str
    offset: int
    bytes: int
    left_out: int


class OutputPage(TypedDict):
    """Oldest first; ``cursor`` is for the next page, as ``after``, also when there is no ``more`` yet."""

    run_id: str
    chunks: list[OutputChunk]
    cursor: str
    more: bool
    reset: NotRequired[ResetJson]


class RunsHandler:
    """Reads stored chunks; a run that printed nothing, or is none, has none."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def get_output(self, request: web.Request) -> web.Response:
        """What a run under `claude-loop run` has printed."""
        query = Query(request, OUTPUT_QUERY)
        run_id = request.match_info["id"]
        if not 0 < len(run_id) <= MAX_VALUE_LENGTH:
            raise InvalidRequest(f"A run's id has 1 to {MAX_VALUE_LENGTH} characters.", field="id")
        limit = query.whole_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        iteration = query.whole_number("iteration", -1, 0, _MOST_ITERATION)
        after, reset = await self._start(query.cursor("after"))
        events, cursor, more = await self._chunks(run_id, None if iteration < 0 else iteration, after, limit)
        page: OutputPage = {
            "run_id": run_id,
            "chunks": [_chunk(event) for event in events],
            "cursor": str(cursor),
            "more": more,
        }
        if reset is not None:
            page["reset"] = {"reason": reset.reason, "cursor": str(reset.cursor)}
        return json_bytes(orjson.dumps(page))

    async def _start(self, after: Cursor | None) -> tuple[Cursor, Reset | None]:
        if after is None:
            return self._hub.state.trimmed_cursor, None
        opened = await self._hub.subscribe(start=Start("cursor", cursor=after))
        start = opened.subscription.cursor
        return start, None if opened.reason is None else Reset(opened.reason, start)

    async def _chunks(
        self, run_id: str, iteration: int | None, after: Cursor, limit: int
    ) -> tuple[list[Event], Cursor, bool]:
        """The next chunks, where to go on behind them, and whether there is more."""
        filter_ = Filter(types=("output.chunk",), run_ids=(run_id,))
        found: list[Event] = []
        place, size, looked_at = after.seq, 0, 0
        while True:
            page = await self._hub.log.read(place, _STEP, filter_)
            for event in page.events:
                if len(found) == limit or size >= _PAGE_BYTES or looked_at >= _MOST_LOOKED_AT:
                    return found, await self._hub.cursor_at(place), True
                place, looked_at = event.seq, looked_at + 1
                if iteration is None or event.data.get("iteration") == iteration:
                    found.append(event)
                    size += len(event.json)
            if len(page.events) < _STEP:
                return found, await self._hub.cursor_at(max(page.upto, after.seq)), False


def _chunk(event: Event) -> OutputChunk:
    """Anybody may publish events of this type: what is not as it should be is left out."""
    data = event.data
    iteration, text = data.get("iteration"), data.get("text")
    return {
        "seq": event.seq,
        "at": event.at,
        "iteration": iteration if type(iteration) is int else None,
        "text": text if isinstance(text, str) else "",
        "offset": _count(data.get("offset")),
        "bytes": _count(data.get("bytes")),
        "left_out": _count(data.get("left_out")),
    }


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0

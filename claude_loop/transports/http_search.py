"""`GET /api/search`: events by the words in them, newest first."""

from __future__ import annotations

from typing import NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from claude_loop.errors import InvalidRequest
from claude_loop.hub import Hub
from claude_loop.search.service import Search, not_possible
from claude_loop.search.words import as_expression
from claude_loop.subscription import Reset, Start
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_events import DEFAULT_LIMIT, MAX_LIMIT, PAGE_BYTES, EventJson, ResetJson, reset_part
from claude_loop.transports.http_json import joined, json_bytes
from claude_loop.transports.http_query import BEFORE, FILTER_PARAMETERS, MAX_TEXT, Query, number_schema, text_schema

SEARCH_QUERY = (
    Parameter(
        "q",
        "Words that must all be there, each as the beginning of one; those in double quotes together, as they are.",
        schema=text_schema(MAX_TEXT),
        required=True,
    ),
    *FILTER_PARAMETERS,
    BEFORE,
    Parameter("limit", "How many events at most.", schema=number_schema(1, MAX_LIMIT, DEFAULT_LIMIT)),
)


class SearchPage(TypedDict):
    """Newest first; ``cursor`` is for the next page, as ``before``. Events after ``indexed_upto`` have not been looked
    at yet; ``head`` is the newest there is."""

    events: list[EventJson]
    cursor: str
    more: bool
    indexed_upto: int
    head: int
    reset: NotRequired[ResetJson]


class SearchHandler:
    """Asks the index; without one every search is refused."""

    def __init__(self, hub: Hub, search: Search | None) -> None:
        self._hub = hub
        self._search = search

    async def search(self, request: web.Request) -> web.Response:
        """Events with the given words in them, newest first."""
        query = Query(request, SEARCH_QUERY)
        text = query.short_text("q", MAX_TEXT)
        if text is None:
            raise InvalidRequest("`q` is missing.", field="q", hint="Say which words to look for.")
        expression, filter_ = as_expression(text), query.filter()
        limit = query.whole_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        start, reset = self._hub.state.head_cursor, None
        before = query.cursor("before")
        if before is not None:
            opened = await self._hub.subscribe(start=Start("cursor", cursor=before))
            start = opened.subscription.cursor
            reset = None if opened.reason is None else Reset(opened.reason, start)
        if self._search is None:
            raise not_possible()
        found = await self._search.find(expression, filter_, start.seq, limit, PAGE_BYTES)
        cursor = self._hub.state.trimmed_cursor
        if found.more:
            cursor = await self._hub.cursor_at(found.events[-1].seq - 1)
        parts = [
            '{"events":[', joined(found.events), f'],"cursor":"{cursor}","more":{"true" if found.more else "false"}',
            f',"indexed_upto":{found.indexed_upto},"head":{self._hub.state.head}', reset_part(reset), "}",
        ]  # fmt: skip
        return json_bytes("".join(parts).encode())

"""`GET /api/events`: pages of stored events, forwards or backwards, and the stream that follows."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NotRequired

from aiohttp import web
from typing_extensions import TypedDict

from claude_loop.clock import Clock
from claude_loop.eventlog.base import EventLog
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.ids import Cursor
from claude_loop.subscription import NOW, Reset, ResetReason, Start
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_json import joined, json_bytes
from claude_loop.transports.http_query import (
    AFTER,
    BEFORE,
    FILTER_PARAMETERS,
    FROM,
    MAX_TEXT,
    Query,
    choice_schema,
    named_cursor,
    number_schema,
    text_schema,
)
from claude_loop.transports.sse import SseTransport

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
# A page ends early rather than hold more than this; `more` says that it did.
PAGE_BYTES = 8 * 1024 * 1024
_STEP = 250
# A search looks at this many events at a time, and begins no further look after these seconds: what it has by then is
# the page. One search at a time holds a reader of the log for no longer than that.
SEARCH_WINDOW = 10_000
SEARCH_SECONDS = 0.5
_ORDERS = ("asc", "desc")

PAGE_QUERY = (
    *FILTER_PARAMETERS,
    Parameter("q", "Events whose JSON contains this text, regardless of case.", schema=text_schema(MAX_TEXT)),
    AFTER,
    BEFORE,
    Parameter("order", "Oldest first, or newest first.", schema=choice_schema(_ORDERS)),
    Parameter("limit", "How many events at most.", schema=number_schema(1, MAX_LIMIT, DEFAULT_LIMIT)),
)
STREAM_QUERY = (*FILTER_PARAMETERS, FROM)


class EventJson(TypedDict):
    """A stored event. ``timestamp`` is when it happened, ``received_at`` when the daemon had it."""

    seq: int
    id: str
    type: str
    project: str | None
    prd_id: str | None
    story_id: str | None
    run_id: str | None
    session_id: str | None
    source: str
    timestamp: str
    received_at: str
    data: dict[str, Any]


class ResetJson(TypedDict):
    """The cursor that was given could not be used, and the page begins at this one instead."""

    reason: ResetReason
    cursor: str


class EventPage(TypedDict):
    """``cursor`` is for the next page: as ``after`` in ascending order, as ``before`` in descending."""

    events: list[EventJson]
    cursor: str
    more: bool
    reset: NotRequired[ResetJson]


@dataclass(frozen=True, slots=True)
class Asked:
    """One page, as asked for."""

    filter: Filter
    text: str | None
    after: Cursor | None
    before: Cursor | None
    limit: int


@dataclass(slots=True)
class Page:
    events: list[Event]
    cursor: Cursor
    more: bool


# Takes a place and a count; gives events and the place to go on from, None at the end.
ReadFrom = Callable[[int, int], Awaitable[tuple[list[Event], int | None]]]


class _TrimmedMeanwhileError(Exception):
    """Events were pruned between the look at a cursor and the reading behind it."""


class EventsHandler:
    """Reads pages from the log. Full-text searches go one at a time, so that they never take all of its readers."""

    def __init__(self, hub: Hub, sse: SseTransport, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock
        self._log: EventLog = hub.log
        self._sse = sse
        self._searching = asyncio.Semaphore(1)

    async def get_events(self, request: web.Request) -> web.Response:
        """A page of stored events."""
        query = Query(request, PAGE_QUERY)
        asked = Asked(
            query.filter(),
            query.short_text("q", MAX_TEXT),
            query.cursor("after"),
            query.cursor("before"),
            query.whole_number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        )
        read = self._newest_first if query.one_of("order", _ORDERS) == "desc" else self._oldest_first
        async with self._searching if asked.text is not None else contextlib.nullcontext():
            while True:
                usable, reset = await self._usable(asked)
                try:
                    return _page_answer(await read(usable), reset)
                except _TrimmedMeanwhileError:
                    # The log is about to announce it: the next look finds a reset, or a new start.
                    await asyncio.sleep(0)

    async def _usable(self, asked: Asked) -> tuple[Asked, Reset | None]:
        """The same with every cursor that does not belong to this log replaced, and the reset that says so."""
        reset: Reset | None = None
        places: list[Cursor | None] = []
        for cursor in (asked.after, asked.before):
            if cursor is None:
                places.append(None)
                continue
            opened = await self._hub.subscribe(start=Start("cursor", cursor=cursor))
            places.append(opened.subscription.cursor)
            if opened.reason is not None:
                reset = reset or Reset(opened.reason, opened.subscription.cursor)
        after, before = places
        return Asked(asked.filter, asked.text, after, before, asked.limit), reset

    async def _oldest_first(self, asked: Asked) -> Page:
        state = self._hub.state
        start = asked.after or state.trimmed_cursor
        end = asked.before or state.head_cursor

        async def read(after: int, count: int) -> tuple[list[Event], int | None]:
            if asked.text is None:
                page = await self._log.read(after, count, asked.filter)
            else:
                page = await self._log.search(after, count, asked.filter, asked.text, within=SEARCH_WINDOW)
            if after < page.first - 1:
                raise _TrimmedMeanwhileError
            found = [event for event in page.events if event.seq <= end.seq]
            return found, page.upto if page.upto < end.seq else None

        events, place = await self._collect(read, start.seq, asked)
        if place is not None:
            here = bool(events) and events[-1].seq == place
            cursor = Cursor.at(state.epoch, place, events[-1].id) if here else await self._hub.cursor_at(place)
            return Page(events, cursor, more=True)
        return Page(events, max(start, end, key=lambda cursor: cursor.seq), more=False)

    async def _newest_first(self, asked: Asked) -> Page:
        state = self._hub.state
        start = asked.before or state.head_cursor
        end = asked.after or state.trimmed_cursor

        async def read(place: int, count: int) -> tuple[list[Event], int | None]:
            within = None if asked.text is None else SEARCH_WINDOW
            events = await self._log.read_backwards(place, count, asked.filter, text=asked.text, within=within)
            least = 0 if within is None else place - within
            if len(events) == count:
                least = events[-1].seq
            found = [event for event in events if event.seq > end.seq]
            return found, least if least > end.seq + 1 else None

        events, place = await self._collect(read, start.seq + 1, asked)
        if place is not None:
            return Page(events, await self._hub.cursor_at(place - 1), more=True)
        return Page(events, min(start, end, key=lambda cursor: cursor.seq), more=False)

    async def _collect(self, read: ReadFrom, place: int, asked: Asked) -> tuple[list[Event], int | None]:
        """A page of events from ``place`` on, and the place to go on from; None if that is the end."""
        events: list[Event] = []
        size = 0
        limit = asked.limit
        deadline = math.inf if asked.text is None else self._clock.monotonic() + SEARCH_SECONDS
        while True:
            found, next_ = await read(place, min(limit + 1 - len(events), _STEP))
            for event in found:
                size += len(event.json)
                if len(events) == limit or (events and size > PAGE_BYTES):
                    return events, events[-1].seq
                events.append(event)
            if next_ is None or self._clock.monotonic() >= deadline:
                return events, next_
            place = next_

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: what is stored from `from` on, then what comes."""
        query = Query(request, STREAM_QUERY)
        return await self._sse.serve(request, query.filter(), stream_start(request, query))


def stream_start(request: web.Request, query: Query, default: Start = NOW) -> Start:
    """Where a stream begins: a reconnecting reader's last id goes before what its URL says.

    Raises ``InvalidCursor``.
    """
    last_id = request.headers.get("Last-Event-ID")
    if last_id:
        return Start("cursor", cursor=named_cursor(last_id, "Last-Event-ID"))
    return query.start(default)


def _page_answer(page: Page, reset: Reset | None) -> web.Response:
    more = "true" if page.more else "false"
    parts = ['{"events":[', joined(page.events), f'],"cursor":"{page.cursor}","more":{more}']
    parts += reset_part(reset), "}"
    return json_bytes("".join(parts).encode())


def reset_part(reset: Reset | None) -> str:
    """The end of an answer's JSON, after what else is in it."""
    return "" if reset is None else f',"reset":{{"reason":"{reset.reason}","cursor":"{reset.cursor}"}}'

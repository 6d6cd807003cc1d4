"""`POST /api/events`: the way in over HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from claude_loop.clock import Clock
from claude_loop.errors import InputError, InvalidJson, RateLimited, ShuttingDown, TooLarge
from claude_loop.eventlog.base import Appended
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.observability.published import Published
from claude_loop.settings import LimitSettings
from claude_loop.transports.auth import Principal
from claude_loop.transports.gate import principal_of
from claude_loop.transports.http_body import BodyReader, array_slices, first_character, line_slices
from claude_loop.transports.http_outcome import Outcome, Slice, none_accepted, one_accepted
from claude_loop.transports.publishing import RateLimit

TRANSPORT = "http"
_JSON, _NDJSON = "application/json", "application/x-ndjson"
# Slices of one request that wait for their commit, three groups of the log: one is being stored, one numbered.
_SLICES_IN_FLIGHT = 12
_MAX_SENDERS = 1024


class Accepts(Protocol):
    """Turns what was sent into events, or raises an ``InputError`` that names the field."""

    def accept(self, raw: object, *, source: str) -> Event: ...

    def accept_line(self, line: bytes, *, source: str, clear: bool = False) -> Event: ...

    def is_clear(self, lines: bytes) -> bool: ...


class PublishHandler:
    """Accepts, submits and answers. The events of one request keep their order; they are not one transaction."""

    def __init__(self, hub: Hub, acceptor: Accepts, published: Published, limits: LimitSettings, clock: Clock) -> None:
        self._hub = hub
        self._acceptor = acceptor
        self._published = published
        self._bodies = BodyReader(limits.body_bytes)
        # JSON may write one byte as six: nothing longer than this holds an event within its limit.
        self._line_bytes = 8 * limits.data_bytes
        self._rates = SenderRates(limits.events_per_second, clock)
        self.closing = False

    async def post_events(self, request: web.Request) -> web.Response:
        """Publish one event, an array of events, or one event a line; answers once they are committed."""
        if self.closing:
            raise ShuttingDown("The daemon is stopping.")
        try:
            body = await self._bodies.read(request)
            first = first_character(body)
            if first == b"{" and request.content_type == _JSON:
                return await self._one(request, body)
            return await self._several(request, body, first)
        except (InputError, RateLimited) as refusal:
            self._published.refused(TRANSPORT, refusal)
            raise

    async def _one(self, request: web.Request, body: bytes) -> web.Response:
        """The way of nearly all requests, and therefore short."""
        self._rates.take(request, 1)
        try:
            event = self._accept_line(body)
        except InvalidJson:
            raise  # then the whole body is none
        except InputError as refusal:
            self._published.refused(TRANSPORT, refusal)
            return none_accepted(refusal)
        (appended,) = await self._hub.submit([event])
        self._published.stored(TRANSPORT, (appended,))
        return one_accepted(event, appended) if appended.error is None else none_accepted(appended.error)

    async def _several(self, request: web.Request, body: bytes, first: bytes) -> web.Response:
        if not first:
            raise InvalidJson("The body is empty.")
        if request.content_type == _NDJSON:
            self._rates.take(request, _records_in(line_slices(body)) if self._rates.limited else 0)
            return await self._many(line_slices(body), self._accepting_lines)
        if first == b"[":
            slices = list(array_slices(body))
            self._rates.take(request, _records_in(slices))
            return await self._many(slices, lambda _records: self._accept)
        raise InvalidJson("The body is neither a JSON object nor an array.")

    def _accept(self, raw: Any) -> Event:
        return self._acceptor.accept(raw, source=TRANSPORT)

    def _accept_line(self, line: bytes, *, clear: bool = False) -> Event:
        if len(line) > self._line_bytes:
            raise TooLarge(f"The event has {len(line)} bytes; none within the limits has over {self._line_bytes}.")
        return self._acceptor.accept_line(line, source=TRANSPORT, clear=clear)

    def _accepting_lines(self, lines: Sequence[bytes]) -> Callable[[bytes], Event]:
        return partial(self._accept_line, clear=self._acceptor.is_clear(b"\n".join(lines)))

    async def _many(
        self, slices: Iterable[Sequence[Any]], accepting: Callable[[Sequence[Any]], Callable[[Any], Event]]
    ) -> web.Response:
        """``accepting`` gives for a slice what makes events of its records."""
        outcome = Outcome()
        waiting: deque[tuple[_Part, asyncio.Future[list[Appended]]]] = deque()
        index = 0
        try:
            for records in slices:
                part = _Part(index, records, accepting)
                index += len(records)
                waiting.append((part, self._hub.submit_made(part.accept, len(records))))
                if len(waiting) >= _SLICES_IN_FLIGHT:
                    await self._settle(outcome, *waiting.popleft())
                await asyncio.sleep(0)  # between two slices others have their turn
            while waiting:
                await self._settle(outcome, *waiting.popleft())
        finally:
            # One slice failed: what becomes of those behind it is not told, and the sender repeats all with their ids.
            await asyncio.gather(*(future for _, future in waiting), return_exceptions=True)
        return outcome.answer()

    async def _settle(self, outcome: Outcome, part: _Part, future: asyncio.Future[list[Appended]]) -> None:
        appended = await future
        for _, refusal in part.accepted.rejected:
            self._published.refused(TRANSPORT, refusal)
        self._published.stored(TRANSPORT, appended)
        outcome.add(part.accepted, appended)


class _Part:
    """Consecutive records of one request, the first of them its ``index``th."""

    def __init__(
        self, index: int, records: Sequence[Any], accepting: Callable[[Sequence[Any]], Callable[[Any], Event]]
    ) -> None:
        self._index = index
        self._records = records
        self._accepting = accepting
        self.accepted: Slice

    def accept(self) -> list[Event]:
        """The events of those records that are some; the others are rejected. In the log's thread."""
        accepted = self.accepted = Slice()
        accept = self._accepting(self._records)
        for number, record in enumerate(self._records, self._index):
            try:
                event = accept(record)
            except InputError as refusal:
                accepted.rejected.append((number, refusal))
            else:
                accepted.indexes.append(number)
                accepted.events.append(event)
        self._records = ()  # events are at hand instead
        return accepted.events


class SenderRates:
    """How many events a second each principal may publish; 0 is unlimited."""

    def __init__(self, per_second: int, clock: Clock) -> None:
        self.limited = per_second > 0
        self._per_second = per_second
        self._clock = clock
        self._rates: dict[Principal, RateLimit] = {}

    def take(self, request: web.Request, events: int) -> None:
        """Count a whole request before any of it is stored. Raises ``RateLimited``."""
        if not self.limited:
            return
        sender = principal_of(request)
        rate = self._rates.get(sender)
        if rate is None:
            if len(self._rates) >= _MAX_SENDERS:
                self._rates.pop(next(iter(self._rates)))
            rate = self._rates[sender] = RateLimit(self._per_second, self._clock)
        rate.take(events)


def _records_in(slices: Iterable[Sequence[Any]]) -> int:
    return sum(map(len, slices))

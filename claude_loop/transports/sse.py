"""Server-sent events: one pump a reader, one write in flight, and a position to come back to.

A reader owns no queue. It is a cursor over the hub; while its connection does not take what was written, nothing more
is read for it, and after ``write_timeout`` it is cut off. It resumes with ``Last-Event-ID``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from aiohttp import hdrs, web

from claude_loop.errors import LoadError, ShuttingDown
from claude_loop.filters import Filter
from claude_loop.hub import BATCH_EVENTS, Hub
from claude_loop.subscription import Opened, Reset, Start, Subscription
from claude_loop.supervision import TaskOwner
from claude_loop.transports.auth import Principal
from claude_loop.transports.gate import principal_of
from claude_loop.transports.pace import Pace, PumpTiming
from claude_loop.transports.wire import sse_batch, sse_position

log = structlog.get_logger(__name__)

RECONNECT_MS = 1000
# A reader that does not read now will not miss the word: it resumes anyway.
_FAREWELL_SECONDS = 0.5
_HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # asks proxies of that family not to gather what should go out at once
}


@dataclass(frozen=True, slots=True)
class SseTiming:
    """Seconds."""

    ping: float = 15.0
    write_timeout: float = 10.0
    sweep: float = 1.0


def sse_reset(reset: Reset) -> bytes:
    """Says that the reader goes on at another place, and why."""
    data = orjson.dumps({"reason": reset.reason, "cursor": str(reset.cursor)})
    return b"event: reset\nid: " + str(reset.cursor).encode() + b"\ndata: " + data + b"\n\n"


def sse_bye() -> bytes:
    """Says that the server ends the stream, and when to come back."""
    data = orjson.dumps({"reconnect_after": RECONNECT_MS / 1000})
    return b"event: bye\ndata: " + data + b"\n\n"


class SseTransport:
    """Serves event streams and knows who is reading."""

    def __init__(self, hub: Hub, timing: SseTiming | None = None, pace: Pace | None = None) -> None:
        """``pace`` is the beat of the pumps; transports that share one also share the work of encoding."""
        self._hub = hub
        self._pace = pace or Pace(PumpTiming())
        self._timing = timing or SseTiming()
        self._tasks = TaskOwner("sse")
        self._streams: set[SseStream] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._closing = False
        self._cut_off = 0

    def statistics(self) -> dict[str, Any]:
        """For ``/status``; each stream is a client with one subscription, and has an entry in ``readers``."""
        readers = [stream.statistics() for stream in self._streams if stream.connected]
        return {"clients": len(readers), "subscriptions": len(readers), "cut_off": self._cut_off, "readers": readers}

    async def serve(self, request: web.Request, filter_: Filter, start: Start) -> web.StreamResponse:
        """Answer ``request`` with a stream that lasts until either side ends it. Raises ``ShuttingDown``."""
        if self._closing:
            raise ShuttingDown("The daemon is stopping.")
        opened = await self._hub.subscribe(filter_, start)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        stream = SseStream(request, response, opened, self._timing, self._pace)
        self._streams.add(stream)
        try:
            await self._run(stream)
        finally:
            self._streams.discard(stream)
        return response

    async def _run(self, stream: SseStream) -> None:
        if self._closing:  # since this request was admitted
            await stream.end()
            return
        pump = self._tasks.spawn(stream.pump(), "pump")
        stream.task = pump
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = self._tasks.spawn(self._sweep(), "sweeper")
        try:
            await asyncio.wait([pump])
        finally:
            pump.cancel()
        if stream.stalled:
            self._cut_off += 1
        elif stream.connected and not pump.cancelled() and pump.exception() is not None:
            stream.abort()  # a defect: the pump's owner has logged it, and the reader resumes
        elif stream.connected:
            await stream.end()

    async def _sweep(self) -> None:
        """End the pumps of readers that went away in silence; only a write would notice, at the next event."""
        while self._streams:
            await asyncio.sleep(self._timing.sweep)
            for stream in self._streams:
                if not stream.connected and stream.task is not None:
                    stream.task.cancel()

    def cut_off(self, is_void: Callable[[Principal], bool]) -> None:
        """End the streams of callers who are nobody any more; coming back they are told why."""
        for stream in self._streams:
            if is_void(stream.principal):
                stream.abort()
                if stream.task is not None:
                    stream.task.cancel()

    async def close(self) -> None:
        """Say goodbye to every reader and end the streams. New ones are refused."""
        self._closing = True
        await self._tasks.close()


class SseStream:
    """One reader: its connection, its place, and the pump between them."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, opened: Opened, timing: SseTiming, pace: Pace
    ) -> None:
        self._request = request
        self._response = response
        self._opened = opened
        self._subscription: Subscription = opened.subscription
        self._timing = timing
        self._pace = pace
        self._told = opened.subscription.cursor
        self._replaying = True
        self._written_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self.stalled = False

    @property
    def connected(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()

    @property
    def principal(self) -> Principal:
        return principal_of(self._request)

    def statistics(self) -> dict[str, Any]:
        """``lag`` counts events, matching or not."""
        filter_ = self._subscription.filter
        return {
            "principal": self.principal.kind,
            "sub": filter_.key,
            "prds": list(filter_.prd_ids),
            "runs": list(filter_.run_ids),
            "lag": self._subscription.lag,
        }

    async def pump(self) -> None:
        """Write until cancelled, or until the connection or the log fails."""
        self._pace.pumps += 1
        try:
            await self._tell(self._opening())
            while True:
                await self._step()
        except ConnectionError:  # the reader is gone, also while it was written to
            return
        except LoadError as failure:
            log.warning("a stream ends because the log cannot be read", code=failure.code)
        finally:
            self._pace.pumps -= 1

    def _opening(self) -> bytes:
        cursor = self._subscription.cursor
        if self._opened.reason is not None:
            return b"retry: %d\n" % RECONNECT_MS + sse_reset(Reset(self._opened.reason, cursor))
        return b"retry: %d\n" % RECONNECT_MS + sse_position(cursor)

    async def _step(self) -> None:
        if not await self._something_new():
            await self._ping()
            return
        if self._subscription.lag < BATCH_EVENTS:
            await self._pace.turn()
        outcome = await self._subscription.next()
        if isinstance(outcome, Reset):
            await self._tell(sse_reset(outcome))
        elif outcome.events:
            await self._tell(sse_batch(outcome))
        else:
            await self._nothing_matched()

    async def _nothing_matched(self) -> None:
        """Only the place has moved. The end of a replay is told at once, everything after it with the next ping."""
        if self._replaying and self._subscription.lag == 0:
            await self._ping()
        else:
            await asyncio.sleep(0)  # a filter that passes nothing must not keep the event loop to itself

    async def _tell(self, chunk: bytes) -> None:
        self._told = self._subscription.cursor
        self._replaying = self._replaying and self._subscription.lag > 0
        await self._write(chunk)

    async def _something_new(self) -> bool:
        """Wait for an event; False when it is time for a ping."""
        due = self._written_at + self._timing.ping
        if due <= _now():
            return False
        try:
            async with asyncio.timeout_at(due):
                await self._subscription.wait()
        except TimeoutError:
            return False
        return True

    async def _ping(self) -> None:
        moved = self._told != self._subscription.cursor
        cursor = self._subscription.cursor
        await self._tell(b": ping\n" + (sse_position(cursor) if moved else b"\n"))

    async def _write(self, chunk: bytes, seconds: float | None = None) -> None:
        try:
            async with asyncio.timeout(self._timing.write_timeout if seconds is None else seconds):
                await self._response.write(chunk)
                await self._request.writer.drain()
        except TimeoutError:
            self.stalled = True
            self.abort()
            raise ConnectionResetError("the reader does not read") from None
        self._written_at = _now()

    async def end(self) -> None:
        """The server's own farewell. The reader comes back with the last id it saw."""
        try:
            await self._write(sse_bye(), _FAREWELL_SECONDS)
            await self._response.write_eof()
        except ConnectionError:
            return

    def abort(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()


def _now() -> float:
    return asyncio.get_running_loop().time()

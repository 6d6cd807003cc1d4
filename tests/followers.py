"""One kind of reader for each transport, with one face: what a client of that transport would do, written out.

A follower keeps what a client keeps: the events it was given and the cursor behind the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import aiohttp
import socketio

from claude_loop.supervision import TaskOwner
from tests.sse_client import EventStream, Message
from tests.support import PATIENCE, eventually

Query = dict[str, list[str]]
# The filter's keys in a URL.
_PARAMETERS = {
    "types": "type",
    "projects": "project",
    "prd_ids": "prd_id",
    "story_ids": "story_id",
    "sources": "source",
}


class Follower(ABC):
    """``status`` is the outcome of the last ``open``: fresh, resumed or reset."""

    name: ClassVar[str]
    #: The forms of `from` this transport has besides a cursor.
    starts: ClassVar[frozenset[str]] = frozenset({"now", "start", "last", "since"})

    def __init__(self, url: str, filter_: Query | None = None) -> None:
        self.url = url
        self.filter = filter_ or {}
        self.events: list[dict[str, Any]] = []
        self.resets: list[str] = []
        self.cursor: str | None = None
        self.status = ""
        self._tasks = TaskOwner(self.name)
        self._let_go = asyncio.Event()

    @property
    def seqs(self) -> list[int]:
        return [event["seq"] for event in self.events]

    @abstractmethod
    async def open(self, start: Any = None) -> None:
        """Begin at ``start`` (a form of `from`), or where the cursor stands; returns when the place is settled."""

    @abstractmethod
    async def close(self) -> None:
        """Go away. ``open`` resumes."""

    async def has(self, count: int, seconds: float = PATIENCE) -> list[int]:
        """The numbers of the events, once there are ``count`` of them; there must not be more."""
        await eventually(lambda: len(self.events) >= count, seconds, f"{count} events for {self.name}")
        assert len(self.events) == count, self.seqs
        return self.seqs

    async def reached(self, cursor: str, seconds: float = PATIENCE) -> None:
        """The follower's cursor has come to ``cursor``."""
        await eventually(lambda: self.cursor == cursor, seconds, f"{self.name} at {cursor}, is at {self.cursor}")

    def stall(self) -> None:
        """Take nothing more from this connection."""
        self._let_go.clear()

    def _reset(self, reason: str, cursor: str) -> None:
        self.resets.append(reason)
        self.status = "reset"
        self.cursor = cursor


class SseFollower(Follower):
    """What EventSource does: it reconnects with the last id it saw."""

    name = "sse"

    async def open(self, start: Any = None) -> None:
        self._let_go.set()
        resuming = start is None
        query = [(_PARAMETERS[key], value) for key, values in self.filter.items() for value in values]
        if not resuming:
            query.append(("from", start if isinstance(start, str) else json.dumps(start)))
        headers = {"Last-Event-ID": self.cursor} if resuming and self.cursor else {}
        self.status = "resumed" if resuming else "fresh"
        # A small buffer: a stalled reader must be felt, not swallowed.
        self._session = aiohttp.ClientSession(self.url, read_bufsize=1024, timeout=aiohttp.ClientTimeout(total=None))
        answer = await self._session.get("/api/events/stream", params=query, headers=headers)
        assert answer.status == 200, await answer.text()
        self._stream = stream = EventStream(answer)
        self._take(await stream.next())
        self._tasks.spawn(self._follow(stream), "follow")

    async def _follow(self, stream: EventStream) -> None:
        with contextlib.suppress(EOFError, aiohttp.ClientError):
            while True:
                await self._let_go.wait()
                self._take(await stream.next(seconds=3600))

    def _take(self, message: Message) -> None:
        if message.event == "reset":
            self._reset(message.json["reason"], message.json["cursor"])
            assert message.id == self.cursor
        elif message.event == "" and message.data:
            self.events.append(message.json)
        self.cursor = message.id or self.cursor

    async def close(self) -> None:
        await self._tasks.close()
        self._stream.answer.close()
        await self._session.close()


class SocketIOFollower(Follower):
    """python-socketio's client with one `subscribe`."""

    name = "socketio"

    async def open(self, start: Any = None) -> None:
        # A session of its own would be left open by the client when the server ends the connection.
        self._session = aiohttp.ClientSession()
        self._client = client = socketio.AsyncClient(reconnection=False, http_session=self._session)
        client.on("events", self._events)
        client.on("reset", self._on_reset)
        await client.connect(self.url, transports=["websocket"])
        answered = asyncio.get_running_loop().create_future()

        def settle(answer: dict[str, Any]) -> None:
            # At once: the first frame may be right behind, and whoever waits for the answer has its turn after it.
            if answer.get("ok"):
                self.status, self.cursor = answer["status"], answer["cursor"]
            answered.set_result(answer)

        wanted = {"filter": self.filter, "from": self.cursor if start is None else start}
        await client.emit("subscribe", wanted, callback=settle)
        async with asyncio.timeout(PATIENCE):
            answer = await answered
        assert answer.get("ok"), answer
        if answer["status"] == "reset":
            self.resets.append(answer["reason"])

    async def _events(self, frame: dict[str, Any]) -> None:
        # The frame says where it begins: a gap could not pass unseen.
        assert frame["prev"] == self.cursor, (frame["prev"], self.cursor)
        self.events += frame["events"]
        self.cursor = frame["upto"]

    async def _on_reset(self, reset: dict[str, Any]) -> None:
        self._reset(reset["reason"], reset["cursor"])

    def stall(self) -> None:
        self._client.eio.ws._conn.protocol.transport.pause_reading()

    async def close(self) -> None:
        await self._client.shutdown()
        await self._session.close()


class PollingFollower(Follower):
    """Asks `GET /api/events` again and again, each time with the cursor of the last answer."""

    name = "polling"
    starts = frozenset({"now", "start", "last"})

    async def open(self, start: Any = None) -> None:
        self._let_go.set()
        self._session = aiohttp.ClientSession(self.url)
        self.status = "resumed" if start is None else "fresh"
        if start == "now":
            self.cursor = (await self._get("/status"))["log"]["cursor"]
        elif start is not None and start != "start":
            # The page's cursor is for what comes before it, which is where reading forwards begins.
            last = {"order": "desc", "limit": str(start["last"])}
            page = await self._get("/api/events", last | self._parameters)
            self.cursor = page["cursor"]
        await self._poll()
        self._tasks.spawn(self._follow(), "poll")

    @property
    def _parameters(self) -> dict[str, Any]:
        return {_PARAMETERS[key]: values for key, values in self.filter.items()}

    async def _get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        async with self._session.get(path, params=query or {}) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def _poll(self) -> None:
        more = True
        while more:
            query = self._parameters | ({"after": self.cursor} if self.cursor else {}) | {"limit": "1000"}
            page = await self._get("/api/events", query)
            if "reset" in page:
                self._reset(page["reset"]["reason"], page["reset"]["cursor"])
            self.events += page["events"]
            self.cursor, more = page["cursor"], page["more"]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            await self._let_go.wait()
            with contextlib.suppress(aiohttp.ClientError):
                await self._poll()

    async def close(self) -> None:
        await self._tasks.close()
        await self._session.close()


FOLLOWERS: tuple[type[Follower], ...] = (SseFollower, SocketIOFollower, PollingFollower)

"""Readers that follow everything from the start, resume after each break, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import socketio

from claude_loop.supervision import TaskOwner
from tests.prove.oracle import Transcript, Violation

RETRY_SECONDS = 0.1
_BROKEN = (aiohttp.ClientError, socketio.exceptions.SocketIOError, TimeoutError, OSError)


async def call(
    client: socketio.AsyncClient,
    gone: asyncio.Event,
    name: str,
    payload: dict,
    heard: Callable[[dict], None] = lambda _answer: None,
) -> dict:
    """``client.call`` that also ends when the connection does; the library's own waits for its timeout then.

    ``heard`` gets the answer in its place among the client's other packets.
    """
    answer: asyncio.Future[dict] = asyncio.get_running_loop().create_future()

    def keep(given: dict) -> None:
        heard(given)
        if not answer.done():
            answer.set_result(given)

    await client.emit(name, payload, callback=keep)
    ends = TaskOwner("call")
    broken = ends.spawn(gone.wait(), name)
    await asyncio.wait([answer, broken], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    await ends.close()
    if not answer.done():
        raise TimeoutError
    return answer.result()


async def leave(client: socketio.AsyncClient) -> None:
    """Disconnect; the client library may wait for ever for a server that is gone."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client.disconnect(), 2)


class Reader:
    """``transcript`` has what it was told, ``cursor`` is where it would go on, ``resumed`` counts its connections."""

    def __init__(self, name: str = "") -> None:
        self.transcript = Transcript(name or type(self).__name__)
        self.cursor: str | None = None
        self.resumed = 0
        self.last: dict[str, Any] = {}

    def saw(self, event: dict) -> None:
        self.last = event
        self.transcript.entries.append((event["seq"], event["id"]))

    def reset(self, reason: str) -> None:
        self.transcript.entries.append(reason)

    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(*_BROKEN):
                    self.resumed += 1
                    await self.follow(session, url)
                await asyncio.sleep(RETRY_SECONDS)

    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        raise NotImplementedError


class SseReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        timeout = aiohttp.ClientTimeout(None, sock_read=20)
        async with self.open(session, url, timeout) as response:
            async for message in messages(response):
                self.take(message)

    def open(self, session: aiohttp.ClientSession, url: str, timeout: aiohttp.ClientTimeout | None = None) -> Any:
        """The request for the stream, from where this reader stands."""
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        return session.get(f"{url}/api/events/stream?from=start", headers=headers, timeout=timeout)

    def take(self, message: dict[str, str]) -> None:
        if message.get("event") == "reset":
            self.reset(json.loads(message["data"])["reason"])
        elif "data" in message and "event" not in message:
            self.saw(json.loads(message["data"]))
        self.cursor = message.get("id", self.cursor)


async def messages(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The messages of an event stream, as its fields; ours have one line of data."""
    message: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            key, _, value = line.partition(": ")
            message[key] = value
            continue
        yield message
        message = {}


async def _joined(client: socketio.AsyncClient) -> None:
    """The library's own wait ends after a second, too soon in a crowd, and not when the connection breaks."""
    pause = 0.005
    while "/" not in client.namespaces:
        if client.eio.state != "connected" or pause > 10_000:
            raise TimeoutError
        await asyncio.sleep(min(pause, 0.3))
        pause *= 1.2


class SocketIOReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        gone = asyncio.Event()
        failures: list[Violation] = []

        @client.on("events")
        async def events(frame: dict) -> None:
            if self.cursor is not None and frame["prev"] != self.cursor:
                failures.append(Violation(f"a frame after {frame['prev']} came to a reader at {self.cursor}"))
                gone.set()
            for event in frame["events"]:
                self.saw(event)
            self.cursor = frame["upto"]

        @client.on("reset")
        async def reset(message: dict) -> None:
            self.reset(message["reason"])
            self.cursor = message["cursor"]

        @client.on("disconnect")
        async def disconnect(*_: object) -> None:
            gone.set()

        await client.connect(url, transports=["websocket"], wait=False)
        try:
            await _joined(client)
            await call(client, gone, "subscribe", {"from": self.cursor or "start"}, self._subscribed)
            await gone.wait()
        finally:
            await leave(client)
        if failures:
            raise failures[0]

    def _subscribed(self, answer: dict) -> None:
        if answer.get("status") == "reset":
            self.reset(answer["reason"])
            self.cursor = answer["cursor"]


class PollingReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            query = {"limit": "1000"} | ({"after": self.cursor} if self.cursor else {})
            async with session.get(f"{url}/api/events", params=query, timeout=aiohttp.ClientTimeout(5)) as response:
                page = await response.json()
                if response.status != 200:
                    return
            if "reset" in page:
                self.reset(page["reset"]["reason"])
            for event in page["events"]:
                self.saw(event)
            self.cursor = page["cursor"]
            if not page["more"]:
                await asyncio.sleep(0.05)


def one_of_each() -> list[Reader]:
    return [SseReader(), SocketIOReader(), PollingReader()]

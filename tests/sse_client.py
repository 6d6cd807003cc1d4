"""A reader of server-sent events that shows everything a stream carries, comments and empty messages included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from tests.support import PATIENCE


@dataclass
class Message:
    """One message. ``id`` is None where it has none; ``comments`` are its lines that begin with a colon."""

    event: str = ""
    data: str = ""
    id: str | None = None
    retry: int | None = None
    comments: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)


class EventStream:
    """``messages`` has all that came so far, ``last_id`` what an EventSource would send when it reconnects."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.messages: list[Message] = []
        self.last_id = ""
        self.ended = False

    async def next(self, seconds: float = PATIENCE) -> Message:
        """The next message. Raises ``EOFError`` at the end of the stream and ``TimeoutError`` when none comes."""
        async with asyncio.timeout(seconds):
            message = await self._read()
        self.messages.append(message)
        self.last_id = message.id or self.last_id
        return message

    async def _read(self) -> Message:
        message, data = Message(), []
        while line := await self.answer.content.readline(max_line_length=1 << 24):
            text = line.decode().rstrip("\n")
            if not text:
                message.data = "\n".join(data)
                return message
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not name:
                message.comments.append(value)
            elif name == "data":
                data.append(value)
            elif name == "retry":
                message.retry = int(value)
            else:
                assert name in ("event", "id"), text
                setattr(message, name, value)
        self.ended = True
        raise EOFError

    async def event(self, seconds: float = PATIENCE) -> Any:
        """The next event of the log; what only moves the cursor is passed over, control messages are not expected."""
        while True:
            message = await self.next(seconds)
            assert not message.event, message
            if message.data:
                return message.json

    async def events(self, count: int, seconds: float = PATIENCE) -> list[Any]:
        return [await self.event(seconds) for _ in range(count)]

    async def control(self, name: str, seconds: float = PATIENCE) -> Message:
        """The next message of type ``name``."""
        while True:
            message = await self.next(seconds)
            if message.event == name:
                return message

    async def nothing_for(self, seconds: float) -> None:
        """Nothing but pings and positions comes for so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                message = await self.next(left)
            except TimeoutError:
                return
            assert not message.data, message


@asynccontextmanager
async def stream(
    session: aiohttp.ClientSession, path: str = "/api/events/stream", *, last_event_id: str | None = None, **query: Any
) -> AsyncIterator[EventStream]:
    """An open stream, whose first message (its position) has not been read yet. ``from_`` stands for ``from``."""
    params = [(name.rstrip("_"), value) for name, values in query.items() for value in _listed(values)]
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
    async with session.get(path, params=params, headers=headers, timeout=timeout) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        yield EventStream(answer)


def _listed(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list | tuple) else [str(values)]

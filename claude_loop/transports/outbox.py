"""The packets on their way to one Socket.IO client, and whether it has taken them."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import cached_property

from engineio.packet import MESSAGE, Packet
from typing_extensions import override

# More than this many packets in one polling response end the Python client's session.
ROUND = 16
_FINAL_TEXT = 0x81


class Frame(Packet):  # type: ignore[misc]  # engineio has no types
    """A text packet encoded once for all the clients it goes to. ``utf8`` begins with Engine.IO's type digit."""

    def __init__(self, utf8: bytes) -> None:
        super().__init__(MESSAGE)
        self.utf8 = utf8

    @cached_property
    def websocket(self) -> bytes:
        """The whole websocket frame: a server's are not masked (RFC 6455, 5.1), so it is the same for every client."""
        size = len(self.utf8)
        if size < 126:
            return bytes((_FINAL_TEXT, size)) + self.utf8
        if size < 65_536:
            return bytes((_FINAL_TEXT, 126)) + size.to_bytes(2, "big") + self.utf8
        return bytes((_FINAL_TEXT, 127)) + size.to_bytes(8, "big") + self.utf8

    @override
    def encode(self, b64: bool = False) -> str | Frame:
        """Text for a polling response (``b64``); itself for the websocket driver, which sends ``utf8`` as it is."""
        return self.utf8.decode() if b64 else self


class Outbox:
    """Stands in for the queue of an Engine.IO socket: the same operations, plus the end of waiting.

    The consumer takes packets in rounds, and takes the next round only when it has handed on the one before. So
    ``idle`` means: everything put here so far has left. Nothing waits in ``put``: whoever puts much waits for
    ``idle`` or ``below`` first.
    """

    def __init__(self) -> None:
        self._packets: deque[Packet | None] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._packets)

    def put_nowait(self, packet: Packet | None) -> None:
        """Add a packet; None ends the consumer's loop once it has taken what came before."""
        if isinstance(packet, Frame):
            self.bytes += len(packet.utf8)
        self._packets.append(packet)
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                break

    async def put(self, packet: Packet | None) -> None:
        self.put_nowait(packet)

    async def take(self) -> list[Packet]:
        """The next packets, at most ``ROUND``; an empty list at the end."""
        while not self._packets:
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            self._tell_waiters()
            try:
                await taker
            finally:
                if taker in self._takers:
                    self._takers.remove(taker)
        packets: list[Packet] = []
        while self._packets and len(packets) < ROUND:
            packet = self._packets[0]
            if packet is None:
                if not packets:
                    return []  # the end stays where it is: whoever comes later ends too
                break
            self._packets.popleft()
            if isinstance(packet, Frame):
                self.bytes -= len(packet.utf8)
            packets.append(packet)
        self._tell_waiters()
        return packets

    def task_done(self) -> None:
        """Part of a queue's interface; ``idle`` needs no counting."""

    async def join(self) -> None:
        """Engine.IO waits here when it closes a socket; a client that no longer reads would hold it for ever."""

    @property
    def is_idle(self) -> bool:
        return not self._packets and bool(self._takers)

    async def idle(self) -> None:
        """Return when everything has left and the consumer asks for more."""
        await self._wait(0)

    async def below(self, packets: int) -> None:
        """Return when fewer than ``packets`` wait here."""
        await self._wait(packets)

    def _satisfied(self, bound: int) -> bool:
        return len(self._packets) < bound if bound else self.is_idle

    async def _wait(self, bound: int) -> None:
        while not self._satisfied(bound):
            waiter = asyncio.get_running_loop().create_future()
            entry = (bound, waiter)
            self._waiters.append(entry)
            try:
                await waiter
            finally:
                if entry in self._waiters:
                    self._waiters.remove(entry)

    def _tell_waiters(self) -> None:
        if not self._waiters:
            return
        waiting, self._waiters = self._waiters, []
        for entry in waiting:
            bound, waiter = entry
            if waiter.done():
                continue
            if self._satisfied(bound):
                waiter.set_result(None)
            else:
                self._waiters.append(entry)

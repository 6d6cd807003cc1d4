"""A pump moves one reader's events from the hub to one client, a round at a time.

It puts the next round out only when the client has taken the one before, so a client that stops reading costs one
round of memory, shared with the others, and no time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from claude_loop.clock import Clock, SystemClock
from claude_loop.hub import BATCH_EVENTS
from claude_loop.subscription import Batch, Reset, Subscription
from claude_loop.transports.outbox import Frame

# Deliveries remembered between two looks at how long they took.
_MEASURED = 4096
# On polling the client's other packets must find room in the same response.
POLLING_ROUND = 8


@dataclass(frozen=True, slots=True)
class PumpTiming:
    """Seconds. The window between rounds grows by ``per_pump`` with each reader, from ``window`` to
    ``longest_window``: many readers then share fewer and fuller frames."""

    window: float = 0.005
    per_pump: float = 0.0002
    longest_window: float = 0.05
    quiet: float = 15.0


class Pace:
    """The common beat of all pumps.

    The first event after a pause goes out at once, and pumps woken by the same commit share the beat; what comes
    within the window after a beat waits for the next. So readers advance together and meet at the same frames.
    """

    def __init__(self, timing: PumpTiming, clock: Clock | None = None) -> None:
        self._timing = timing
        self._clock = clock or SystemClock()
        self._delivered_ms: deque[int] = deque(maxlen=_MEASURED)
        self._last = float("-inf")
        self._next: asyncio.Future[None] | None = None
        self.pumps = 0

    @property
    def window(self) -> float:
        timing = self._timing
        return min(timing.window + self.pumps * timing.per_pump, timing.longest_window)

    async def turn(self) -> None:
        """Return at the next beat."""
        if self._next is None:
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            due = self._last + self.window
            if due <= loop.time():
                loop.call_soon(self._beat)
            else:
                loop.call_at(due, self._beat)
        await asyncio.shield(self._next)

    def delivered(self, received_ms: int) -> None:
        """What was received then has just left for a client."""
        self._delivered_ms.append(self._clock.now_us() // 1000 - received_ms)

    def take_p99(self) -> float | None:
        """How long all but the slowest hundredth took since the last time, in milliseconds; None without any."""
        took = sorted(self._delivered_ms)
        self._delivered_ms.clear()
        return took[min(len(took) - 1, int(0.99 * len(took)))] if took else None

    def _beat(self) -> None:
        self._last = asyncio.get_running_loop().time()
        if self._next is not None:
            self._next.set_result(None)
            self._next = None


class Outlet(Protocol):
    """The way to one client. A polling client takes rounds of at most ``POLLING_ROUND`` frames."""

    @property
    def on_polling(self) -> bool: ...

    def push(self, frames: list[Frame]) -> None:
        """Send ``frames`` when the client is ready."""

    async def drained(self) -> None:
        """Return when everything pushed has left. Raises ``ConnectionAbortedError`` when the client was given up."""


class Feed(Protocol):
    """Turns what the hub gives into frames, and knows how far the client has been told."""

    subscription: Subscription

    def backlog(self, size: int) -> Iterator[list[Frame]]:
        """What goes before everything else, in rounds of at most ``size`` frames."""

    def rounds(self, outcome: Batch | Reset, size: int) -> Iterator[list[Frame]]:
        """The frames for ``outcome``, in rounds of at most ``size``. A round counts as told when it is given out."""

    @property
    def untold_since(self) -> float | None:
        """Since when (``loop.time()``) the client has not heard of a cursor that has moved; None if it has."""

    def position(self) -> list[Frame]:
        """Tells the client where it is."""


class Pump:
    """Runs until it is cancelled or its client given up. A failed read of the log ends it with that error."""

    def __init__(self, outlet: Outlet, feed: Feed, pace: Pace, timing: PumpTiming) -> None:
        self._outlet = outlet
        self._feed = feed
        self._pace = pace
        self._quiet = timing.quiet
        self._follows = False  # how long a replay takes says nothing about the daemon

    async def run(self) -> None:
        self._pace.pumps += 1
        try:
            await self._send(self._feed.backlog(self._size))
            while True:
                await self._step()
        except ConnectionAbortedError:
            return  # the session has been cut off; its end is reported by whoever did it
        finally:
            self._pace.pumps -= 1

    @property
    def _size(self) -> int:
        return POLLING_ROUND if self._outlet.on_polling else BATCH_EVENTS

    async def _step(self) -> None:
        if self._feed.subscription.lag == 0:
            self._follows = True
        if not await self._something_new():
            await self._send(iter([self._feed.position()]))
            return
        if self._feed.subscription.lag < BATCH_EVENTS:
            await self._pace.turn()
        outcome = await self._feed.subscription.next()
        await self._send(self._feed.rounds(outcome, self._size))
        if self._follows and isinstance(outcome, Batch) and outcome.events:
            self._pace.delivered(outcome.events[0].received_at)

    async def _something_new(self) -> bool:
        """Wait for an event; False when the client should rather be told where it is."""
        subscription, since = self._feed.subscription, self._feed.untold_since
        if since is None:
            await subscription.wait()
            return True
        due = since + self._quiet
        if due <= asyncio.get_running_loop().time():
            return False
        try:
            async with asyncio.timeout_at(due):
                await subscription.wait()
        except TimeoutError:
            return False
        return True

    async def _send(self, rounds: Iterator[list[Frame]]) -> None:
        for frames in rounds:
            self._outlet.push(frames)
            await self._outlet.drained()

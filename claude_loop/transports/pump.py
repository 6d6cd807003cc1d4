"""A pump moves one reader's events from the hub to one client, a round at a time.

It puts the next round out only when the client has taken the one before, so a client that stops reading costs one
round of memory, shared with the others, and no time. As long as nothing of that kind happens, the fan-out serves the
reader together with the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from claude_loop.hub import BATCH_EVENTS
from claude_loop.subscription import Batch
from claude_loop.transports.fan_out import FanOut
from claude_loop.transports.outbox import Frame
from claude_loop.transports.outlet import POLLING_ROUND, Feed, Outlet


class Pump:
    """Runs until it is cancelled or its client given up. A failed read of the log ends it with that error."""

    def __init__(self, outlet: Outlet, feed: Feed, fan_out: FanOut) -> None:
        self._outlet = outlet
        self._feed = feed
        self._fan_out = fan_out
        self._pace = fan_out.pace
        self._follows = False  # how long a replay takes says nothing about the daemon

    async def run(self) -> None:
        self._pace.pumps += 1
        try:
            await self._send(self._feed.backlog(self._size))
            while True:
                if not self._outlet.on_polling:
                    await self._fan_out.follow(self._outlet, self._feed)
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
        # Whoever comes from the fan-out has waited for the beat there.
        if self._outlet.on_polling and self._feed.subscription.lag < BATCH_EVENTS:
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
        due = since + self._fan_out.quiet
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

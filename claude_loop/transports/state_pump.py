"""Moves what changes in the watched documents to one Socket.IO client.

The next frame is made only when the client has taken the last, and it holds the difference to that: a slow client gets
fewer and larger steps, and nothing waits for it anywhere.
"""

from __future__ import annotations

import asyncio

from claude_loop.progress.watch import StatePatches, Watch
from claude_loop.transports import wire
from claude_loop.transports.outbox import Frame
from claude_loop.transports.outlet import Outlet

# The first change after a pause goes out at once; what follows within this many seconds goes out together. The eye
# sees no more steps than that.
WINDOW = 0.05


class StatePump:
    """Runs until it is cancelled or its client given up."""

    def __init__(self, outlet: Outlet, watch: Watch, window: float = WINDOW) -> None:
        self._outlet = outlet
        self._watch = watch
        self._window = window
        self._last = float("-inf")

    async def run(self) -> None:
        try:
            while True:
                await self._watch.wait()
                await self._pause()
                await self._send(self._watch.take())
        except ConnectionAbortedError:
            return  # the session has been cut off; its end is reported by whoever did it

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._last + self._window - loop.time()))
        self._last = loop.time()

    async def _send(self, new: StatePatches) -> None:
        if not new.patches:
            return
        self._outlet.push([Frame(wire.message("patches", new._asdict()))])
        await self._outlet.drained()

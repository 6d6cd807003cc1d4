"""Long work on the event loop, in slices."""

from __future__ import annotations

import asyncio

from claude_loop.clock import Clock

# Readers and publishers wait at most about this long for a slice of ours.
SLICE_SECONDS = 0.004


class Breath:
    """Lets others run when the current slice has lasted long enough."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    def start(self) -> None:
        """A slice begins: we have just waited for something."""
        self._since = self._clock.monotonic()

    async def take(self) -> None:
        """To be called between steps that each take far less than a slice."""
        if self._clock.monotonic() - self._since >= SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock.monotonic()

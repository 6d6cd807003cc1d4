"""The common beat of all that feeds readers."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from claude_loop.clock import Clock, SystemClock

# Deliveries remembered between two looks at how long they took.
_MEASURED = 4096


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

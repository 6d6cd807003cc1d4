"""How much one publisher may send: so many events a second, and so many that wait for their answer."""

from __future__ import annotations

from claude_loop.clock import Clock
from claude_loop.errors import Busy, RateLimited


class RateLimit:
    """A bucket that fills with ``per_second`` events a second and holds one second's worth; 0 is unlimited."""

    def __init__(self, per_second: int, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = float(per_second)
        self._filled_at = clock.monotonic()

    def take(self, events: int = 1) -> None:
        """Raises ``RateLimited``; then nothing was taken. More than one second's worth at once passes a full bucket,
        and is paid back before the next."""
        if not self._per_second:
            return
        now = self._clock.monotonic()
        self._left = min(self._per_second, self._left + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._left < min(events, self._per_second):
            raise RateLimited(f"At most {self._per_second} events a second are taken from one publisher.")
        self._left -= events


class InFlight:
    """Counts what one publisher has sent and not been answered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0

    def enter(self) -> None:
        """Raises ``Busy`` at the limit."""
        if self.count >= self._limit:
            raise Busy(f"{self.count} of your events wait for their answer; at most {self._limit} may.")
        self.count += 1

    def leave(self) -> None:
        self.count -= 1

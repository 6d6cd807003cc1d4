"""The last events in memory, so that readers at the live edge never touch the log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from claude_loop.events import Event


class Ring:
    """A run of consecutive events ending at the head, bounded by count and by bytes of JSON."""

    def __init__(self, max_events: int = 16_384, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[Event] = []
        # Bytes taken in before each event, and after the last: one more than there are events.
        self._totals: list[int] = [0]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def extend(self, events: Sequence[Event]) -> None:
        """Add events that follow the newest one held; anything else starts the ring anew."""
        if self._events and events and events[0].seq != self._events[-1].seq + 1:
            self.clear()
        self._totals += accumulate([len(event.json) for event in events], initial=self._totals.pop())
        self._events += events
        # An eighth more than allowed may gather before the lists are moved down: one move for many commits.
        if len(self._events) > self._max_events * 9 // 8 or self._bytes > self._max_bytes * 9 // 8:
            self._trim()

    @property
    def _bytes(self) -> int:
        return self._totals[-1] - self._totals[0]

    def _trim(self) -> None:
        """The newest event stays, however long it is."""
        too_many = len(self._events) - self._max_events
        too_long = bisect_left(self._totals, self._totals[-1] - self._max_bytes)
        drop = min(max(too_many, too_long), len(self._events) - 1)
        del self._events[:drop], self._totals[:drop]

    def clear(self) -> None:
        self._events = []
        self._totals = [0]

    def covers(self, after: int) -> bool:
        """Whether every event after this position is here."""
        return bool(self._events) and after >= self._events[0].seq - 1

    def slice(self, after: int, upto: int) -> list[Event]:
        """The events with ``after < seq <= upto``; the ring must cover ``after``."""
        base = self._events[0].seq
        return self._events[after + 1 - base : upto + 1 - base]

    def get(self, seq: int) -> Event | None:
        """The event at ``seq``, if it is here."""
        if not self._events or not self._events[0].seq <= seq <= self._events[-1].seq:
            return None
        return self._events[seq - self._events[0].seq]

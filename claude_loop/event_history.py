"""What the event bus remembers: the last events, and how many there were of each type."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from threading import Lock

from claude_loop.events import Event
from claude_loop.filters import glob_to_regex

MAX_TYPES = 1000  # callers may make up types without end
OTHER_TYPES = "(other)"  # no event type looks like this


class EventHistory:
    """The last ``size`` events and counts of all since the last reset; for use from any thread.

    Counts are bounded too: the first 1000 types seen have their own, events of any further types share one.
    """

    def __init__(self, size: int) -> None:
        self._lock = Lock()
        self._events: deque[Event] = deque(maxlen=size)
        self._total = 0
        self._by_type: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def total(self) -> int:
        return self._total

    def record(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._total += len(events)
            self._events.extend(events)
            counts = self._by_type
            for event in events:
                counts[event.type] = counts.get(event.type, 0) + 1
            if len(counts) > MAX_TYPES:
                self._fold()

    def recent(self, pattern: str | None, limit: int | None) -> list[Event]:
        """Newest first. ``pattern`` is a glob over types; None matches all, as a ``limit`` of None takes all."""
        with self._lock:
            events: Iterable[Event] = list(self._events)[::-1]
        if pattern is not None:
            regex = re.compile(glob_to_regex(pattern), re.DOTALL)
            events = (event for event in events if regex.fullmatch(event.type))
        return list(islice(events, None if limit is None else max(limit, 0)))

    def by_type(self) -> dict[str, int]:
        with self._lock:
            return dict(self._by_type)

    def clear(self) -> None:
        with self._lock:
            self._events.clear()

    def reset_counts(self) -> None:
        with self._lock:
            self._total = 0
            self._by_type.clear()

    def _fold(self) -> None:
        """Move the counts of the types seen last into the shared one."""
        counts = self._by_type
        shared = counts.pop(OTHER_TYPES, 0)
        while len(counts) > MAX_TYPES:
            shared += counts.popitem()[1]
        if shared:
            counts[OTHER_TYPES] = shared

"""What publishers sent: how much was stored, and a visible record of what was refused."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from claude_loop.clock import Clock, rfc3339
from claude_loop.errors import ClaudeLoopError
from claude_loop.eventlog.base import Appended

KEPT_REFUSALS = 50


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused event or request. ``at`` is milliseconds since the epoch."""

    at: int
    transport: str
    code: str
    field: str | None
    message: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "at": rfc3339(self.at),
            "transport": self.transport,
            "code": self.code,
            "field": self.field,
            "message": self.message,
        }


class Published:
    """Counts by transport. Messages of errors carry no secrets: whoever made them saw to that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stored_events: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.last_refusals: deque[Refusal] = deque(maxlen=KEPT_REFUSALS)

    def stored(self, transport: str, outcomes: Sequence[Appended]) -> None:
        """Count what the log answered; conflicts are refusals."""
        new = 0
        for _, duplicate, error in outcomes:
            if error is not None:
                self.refused(transport, error)
            elif duplicate:
                self.duplicates[transport] += 1
            else:
                new += 1
        self.stored_events[transport] += new

    def refused(self, transport: str, error: ClaudeLoopError) -> None:
        """Count one refusal, and keep it for ``/status``."""
        self.refusals[transport, error.code] += 1
        now = self._clock.now_us() // 1000
        self.last_refusals.append(Refusal(now, transport, error.code, error.field, error.message[:500]))

    def statistics(self) -> dict[str, Any]:
        """For ``/status``: counts by transport, refusals by code too, and the last refusals, newest first."""
        refused: dict[str, dict[str, int]] = {}
        for (transport, code), count in sorted(self.refusals.items()):
            refused.setdefault(transport, {})[code] = count
        return {
            "stored": dict(self.stored_events),
            "duplicates": dict(self.duplicates),
            "refused": refused,
            "last_refusals": [refusal.as_dict() for refusal in reversed(self.last_refusals)],
        }

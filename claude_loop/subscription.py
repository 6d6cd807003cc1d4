"""A reader's place in the log: where it starts, what it gets next, and when it must be told of a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from claude_loop.clock import parse_time
from claude_loop.errors import InvalidCursor
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.ids import Cursor

if TYPE_CHECKING:
    from claude_loop.hub import Hub

MAX_LAST = 100_000
ResetReason = Literal["trimmed", "epoch", "diverged", "ahead"]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a subscription begins; exactly one way is set, ``cursor`` for a resumption."""

    kind: Literal["now", "start", "last", "since", "cursor"]
    last: int = 0
    since_ms: int = 0
    cursor: Cursor | None = None

    @classmethod
    def parse(cls, raw: object) -> Start:
        """From ``"now"``, ``"start"``, ``{"last": N}``, ``{"since": time}`` or a cursor; None means now.

        Raises ``InvalidCursor``.
        """
        if raw is None or raw == "now":
            return NOW
        if raw == "start":
            return FROM_START
        if isinstance(raw, str):
            return cls("cursor", cursor=Cursor.parse(raw))
        if isinstance(raw, dict) and len(raw) == 1:
            ((key, value),) = raw.items()
            if key == "last":
                return cls("last", last=_count(value))
            if key == "since":
                return cls("since", since_ms=_moment(value))
        raise InvalidCursor("`from` is none of the forms it may have.", field="from")


NOW = Start("now")
FROM_START = Start("start")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_LAST:
        raise InvalidCursor(f"`last` is a whole number from 0 to {MAX_LAST}.", field="from.last")
    return value


def _moment(value: Any) -> int:
    try:
        return parse_time(value) // 1000
    except (TypeError, ValueError, OverflowError):
        raise InvalidCursor(
            "`since` is a time: RFC 3339, or seconds since the epoch.",
            field="from.since",
            hint="For example 2026-01-26T12:00:00Z.",
        ) from None


@dataclass(slots=True)
class Batch:
    """The matching events between two positions. Readers with equal filters share one batch and, in
    ``encoded``, the frames made of it: each kind of frame is encoded once however many readers there are.

    ``is_full``: newer events would not make it longer."""

    after: Cursor
    upto: Cursor
    events: list[Event]
    is_full: bool = False
    encoded: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset:
    """The reader cannot go on where it was. It continues at ``cursor``: what lies between is lost to it."""

    reason: ResetReason
    cursor: Cursor


class Subscription:
    """A cursor over the hub. It owns no queue: an unread event costs nothing but its place in the log.

    ``filter`` may be replaced at any time; the position stays.
    """

    def __init__(self, hub: Hub, filter_: Filter, position: Cursor) -> None:
        self._hub = hub
        self.filter = filter_
        self.cursor = position

    @property
    def lag(self) -> int:
        """How many events the reader is behind the head."""
        return self._hub.state.head - self.cursor.seq

    async def wait(self) -> None:
        """Return as soon as something is ahead of the cursor."""
        while self._hub.state.head <= self.cursor.seq:
            await self._hub.next_commit()

    async def next(self) -> Batch | Reset:
        """Wait for the next batch after the cursor, and move the cursor past it.

        The batch may be without events when the filter passed none: then only the cursor has moved.
        """
        await self.wait()
        outcome = await self._hub.batch_after(self.cursor, self.filter)
        self.cursor = outcome.upto if isinstance(outcome, Batch) else outcome.cursor
        return outcome

    def next_in_memory(self, head: int) -> Batch | None:
        """As ``next`` up to ``head``, which is ahead, without waiting; None when the log has to be read for it."""
        batch = self._hub.batch_in_memory(self.cursor, self.filter, head)
        if batch is not None:
            self.cursor = batch.upto
        return batch


@dataclass(frozen=True, slots=True)
class Opened:
    """A new subscription, and whether it began anew, resumed its cursor or had to be reset."""

    subscription: Subscription
    status: Literal["fresh", "resumed", "reset"]
    reason: ResetReason | None = None

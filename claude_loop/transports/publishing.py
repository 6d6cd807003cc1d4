"""The way of one client's event into the log: how much it may send, and the answer it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import Busy, ClaudeLoopError, Internal, RateLimited
from claude_loop.eventlog.base import Appended
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.settings import LimitSettings

log = structlog.get_logger(__name__)


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


class Account:
    """What one client may publish: so many events a second, and so many that wait for their answer."""

    def __init__(self, limits: LimitSettings, clock: Clock) -> None:
        self.rate = RateLimit(limits.events_per_second, clock)
        self.in_flight = 0
        self._limit = limits.in_flight

    def enter(self) -> None:
        """Count one more in flight. Raises ``Busy`` at the limit."""
        if self.in_flight >= self._limit:
            raise Busy(f"{self.in_flight} of your requests wait for their answer; at most {self._limit} may.")
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1


class EventAcceptor(Protocol):
    def accept(self, raw: object, *, source: str) -> Event:
        """Raises ``InputError`` for what is no event."""


class Publisher:
    """Takes events one at a time, in order, and answers each once it is durable or refused."""

    def __init__(
        self, hub: Hub, acceptor: EventAcceptor, on_rejected: Callable[[ClaudeLoopError, object], None]
    ) -> None:
        self.published = 0
        self._hub = hub
        self._acceptor = acceptor
        self._on_rejected = on_rejected

    def publish(
        self,
        account: Account,
        payload: Any,
        answer: Callable[[dict[str, Any]], None],
        refuse: Callable[[ClaudeLoopError], None],
    ) -> None:
        """Queue the event for the next commit, before this returns: the order of calls is the order in the log.

        Later calls ``answer`` with ``{"id", "seq", "duplicate"}``, or ``refuse``. Raises ``ClaudeLoopError`` for what
        is refused at once.
        """
        try:
            account.rate.take()
            event = self._acceptor.accept(payload, source="socketio")
            account.enter()
        except ClaudeLoopError as error:
            self._on_rejected(error, payload)
            raise
        try:
            stored = self._hub.submit([event])
        except BaseException:
            account.leave()
            raise
        stored.add_done_callback(partial(self._stored, account, event, answer, refuse))

    def _stored(
        self,
        account: Account,
        event: Event,
        answer: Callable[[dict[str, Any]], None],
        refuse: Callable[[ClaudeLoopError], None],
        stored: asyncio.Future[list[Appended]],
    ) -> None:
        account.leave()
        try:
            (outcome,) = stored.result()
        except ClaudeLoopError as error:
            refuse(error)
        except (Exception, asyncio.CancelledError):
            log.exception("an event could not be stored", id=event.id)
            refuse(Internal("The event could not be stored."))
        else:
            if outcome.error is not None:
                self._on_rejected(outcome.error, event.as_dict())
                refuse(outcome.error)
            else:
                self.published += not outcome.duplicate
                answer({"id": event.id, "seq": outcome.seq, "duplicate": outcome.duplicate})

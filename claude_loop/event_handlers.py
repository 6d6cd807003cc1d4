"""Who hears of which events, and in what order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from threading import Lock
from typing import Any

from claude_loop.clock import Clock
from claude_loop.events import Event
from claude_loop.filters import glob_to_regex

MAX_ROUTES = 1000  # callers may make up types without end

Handler = Callable[[Event], Any]
Predicate = Callable[[Event], bool]


class EventPriority(IntEnum):
    """Handlers with a higher value run earlier; any other integer may be used as well."""

    CRITICAL = 100
    HIGH = 75
    NORMAL = 50
    LOW = 25
    BACKGROUND = 0


@dataclass(eq=False, slots=True)
class Subscription:
    """A handler and what it wants. ``active`` ends with ``unsubscribe``, or with the first event of ``once``."""

    id: str
    pattern: str
    handler: Handler
    priority: int
    name: str
    filter_func: Predicate | None
    once: bool
    regex: re.Pattern[str]
    active: bool = True


class HandlerTable:
    """Subscriptions by id, and the route of each type through them; for use from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._serial = count(1)
        self._subscriptions: dict[str, Subscription] = {}
        self._routes: dict[str, tuple[Subscription, ...]] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(
        self,
        pattern: str,
        handler: Handler,
        priority: int,
        filter_func: Predicate | None,
        name: str | None,
        *,
        once: bool,
    ) -> str:
        """The new handler's id, which no other bus will know."""
        name = name or str(getattr(handler, "__qualname__", type(handler).__qualname__))
        regex = re.compile(glob_to_regex(pattern), re.DOTALL)
        with self._lock:
            handler_id = f"{next(self._serial)}-{self._clock.random_bytes(6).hex()}"
            self._subscriptions[handler_id] = Subscription(
                handler_id, pattern, handler, priority, name, filter_func, once, regex
            )
            self._routes = {}
        return handler_id

    def remove(self, handler_id: str) -> bool:
        with self._lock:
            return self._remove(handler_id)

    def clear(self) -> int:
        with self._lock:
            return sum([self._remove(handler_id) for handler_id in list(self._subscriptions)])

    def in_order(self) -> list[Subscription]:
        """By priority; among equals the older subscription first."""
        return sorted(self._subscriptions.values(), key=lambda subscription: -subscription.priority)

    def route(self, event_type: str) -> tuple[Subscription, ...]:
        """Who hears of a type, in order. Remembered, because types repeat and subscriptions rarely change."""
        route = self._routes.get(event_type)
        if route is None:
            with self._lock:
                route = tuple(s for s in self.in_order() if s.regex.fullmatch(event_type))
                if len(self._routes) >= MAX_ROUTES:
                    self._routes = {}
                self._routes[event_type] = route
        return route

    def take_turn(self, subscription: Subscription) -> bool:
        """Whether a handler on the route may be called now: still subscribed, and ``once`` not yet used up."""
        if not subscription.once:
            return subscription.active
        return self.remove(subscription.id)

    def _remove(self, handler_id: str) -> bool:
        subscription = self._subscriptions.pop(handler_id, None)
        if subscription is None:
            return False
        subscription.active = False
        self._routes = {}
        return True

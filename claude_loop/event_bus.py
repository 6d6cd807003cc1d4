"""In-process publish and subscribe: patterns, priorities, isolation of failures, a short history and statistics.

>>> import asyncio
>>> bus = EventBus()
>>> hid = bus.subscribe("story.*", lambda event: print(event.type, event.data))
>>> event = asyncio.run(bus.emit("story.started", {"story_id": "US-001"}, prd_id="PRD-001"))
story.started {'story_id': 'US-001'}
>>> bus.get_history("story.*")[0] is event
True
>>> bus.unsubscribe(hid)
True
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any, TypedDict, Unpack

import structlog

from claude_loop.clock import Clock, SystemClock
from claude_loop.event_handlers import EventPriority, Handler, HandlerTable, Predicate, Subscription
from claude_loop.event_history import EventHistory
from claude_loop.events import Event
from claude_loop.ids import new_event_id
from claude_loop.supervision import TaskOwner

__all__ = ["Event", "EventBus", "EventPriority", "Subscription", "emit", "get_event_bus", "subscribe", "unsubscribe"]

log = structlog.get_logger(__name__)

Unfinished = tuple[Subscription, Awaitable[Any]]


class EventIds(TypedDict, total=False):
    """What ``emit`` takes besides ``prd_id`` and ``story_id``; ``source`` is ``"python"`` unless given."""

    run_id: str | None
    session_id: str | None
    project: str | None
    source: str


class EventBus:
    """Handlers hear of the events whose type matches their pattern (``*`` any characters, dots too; ``?`` one).

    Handlers are sync or async functions of one ``Event``, called by priority and then in order of subscription. One
    that raises is logged and counted in ``handler_failures``; the others and the emitter do not notice. During an
    event, one that is unsubscribed before its turn is not called, and one subscribed meanwhile waits for the next.

    The bus may be used from any thread; handlers run in the thread of the emitter.
    """

    def __init__(self, *, clock: Clock | None = None, history_size: int = 1000) -> None:
        self.handler_failures = 0
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._handlers = HandlerTable(self._clock)
        self._history = EventHistory(history_size)
        self._tasks = TaskOwner("event bus")
        self._latest: asyncio.Task[None] | None = None

    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        priority: int = EventPriority.NORMAL.value,
        filter_func: Predicate | None = None,
        name: str | None = None,
    ) -> str:
        """Call ``handler`` for events whose type matches and for which ``filter_func`` is true; the handler's id.

        ``name`` is what logs call it; by default the function's own.

            >>> bus = EventBus()
            >>> _ = bus.subscribe("test.run", lambda e: print("second"), priority=EventPriority.LOW.value)
            >>> _ = bus.subscribe("*", lambda e: print("first"), priority=EventPriority.HIGH.value)
            >>> _ = bus.subscribe("*", lambda e: print("never"), filter_func=lambda e: e.prd_id == "PRD-002")
            >>> _ = bus.emit_sync("test.run", {"passed": 3}, prd_id="PRD-001")
            first
            second
        """
        return self._handlers.add(pattern, handler, priority, filter_func, name, once=False)

    def once(
        self,
        pattern: str,
        handler: Handler,
        priority: int = EventPriority.NORMAL.value,
        filter_func: Predicate | None = None,
        name: str | None = None,
    ) -> str:
        """As ``subscribe``, for the first such event only, also when several are emitted at the same time."""
        return self._handlers.add(pattern, handler, priority, filter_func, name, once=True)

    def on_any(self, handler: Handler, priority: int = EventPriority.NORMAL.value, name: str | None = None) -> str:
        """As ``subscribe``, for every event."""
        return self.subscribe("*", handler, priority, name=name)

    def on_execution(
        self,
        execution_id: str,
        handler: Handler,
        priority: int = EventPriority.NORMAL.value,
        name: str | None = None,
    ) -> str:
        """As ``subscribe``, for the events of one execution: those with this ``prd_id`` or this ``run_id``."""
        return self.subscribe(
            "*", handler, priority, lambda event: execution_id in (event.prd_id, event.run_id), name=name
        )

    def unsubscribe(self, handler_id: str) -> bool:
        """Whether there was such a handler; from now on there is none."""
        return self._handlers.remove(handler_id)

    def remove_all_listeners(self) -> int:
        """Remove every handler; how many there were."""
        return self._handlers.clear()

    def get_handlers(self, event_type: str | None = None) -> list[Subscription]:
        """The subscriptions in the order of their calls; all, or those that an event of ``event_type`` reaches."""
        return self._handlers.in_order() if event_type is None else list(self._handlers.route(event_type))

    def listener_count(self, event_type: str | None = None) -> int:
        """How many handlers there are, or how many an event of ``event_type`` reaches."""
        return len(self._handlers) if event_type is None else len(self._handlers.route(event_type))

    async def emit(
        self,
        event_type: str,
        data: dict[str, Any] | None = None,
        prd_id: str | None = None,
        story_id: str | None = None,
        **ids: Unpack[EventIds],
    ) -> Event:
        """Make an event, record it, and await its handlers one after the other; the event."""
        event = self._event(event_type, data, prd_id, story_id, ids)
        await self.dispatch(event)
        return event

    def emit_sync(
        self,
        event_type: str,
        data: dict[str, Any] | None = None,
        prd_id: str | None = None,
        story_id: str | None = None,
        **ids: Unpack[EventIds],
    ) -> Event:
        """As ``emit``, from code that cannot await; with or without a running event loop.

        When it returns, history and statistics have the event, and sync handlers have run. Async handlers

        * have run to completion too, by priority and under ``asyncio.run``, when no loop runs in this thread;
        * otherwise run soon, on a task of the bus: by priority, and event after event in the order of the calls.
          ``join`` waits for them. An ``emit`` awaited meanwhile may overtake them.
        """
        event = self._event(event_type, data, prd_id, story_id, ids)
        self.record((event,))
        left = deque(
            (s, result) for s in self._handlers.route(event_type) if (result := self._call(s, event)) is not None
        )
        if not left:
            return event
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            try:
                asyncio.run(self._finish_all(left))
            finally:
                _discard(left)
        else:
            self._latest = self._tasks.spawn(self._finish_all(left, self._latest), event_type)
            self._latest.add_done_callback(lambda _: _discard(left))
        return event

    async def dispatch(self, event: Event) -> None:
        """``emit`` for an event that exists already: record it and await its handlers."""
        self.record((event,))
        for subscription in self._handlers.route(event.type):
            result = self._call(subscription, event)
            if result is not None:
                await self._finish(subscription, result)

    def record(self, events: Sequence[Event]) -> None:
        """History and statistics only: what is left to do for events while there are no handlers."""
        self._history.record(events)

    async def join(self) -> None:
        """Wait until the handlers that ``emit_sync`` left to a task on this loop have run."""
        while (task := self._latest) is not None and task.get_loop() is asyncio.get_running_loop() and not task.done():
            await asyncio.wait([task])

    async def close(self) -> None:
        """Cancel what ``emit_sync`` left to run and wait for its end. The bus can be used afterwards."""
        await self._tasks.close()

    def get_history(self, event_type: str | None = None, limit: int | None = 100) -> list[Event]:
        """The last events, newest first, at most ``limit``; ``event_type`` may be a pattern.

        The last 1000 are kept (``history_size`` of the constructor).
        """
        return self._history.recent(event_type, limit)

    def get_stats(self) -> dict[str, Any]:
        """``{"total_events", "by_type": {type: count}, "handlers": count, "history_size": count}``.

        ``by_type`` names the first 1000 types seen; events of any further types are counted under ``"(other)"``.
        """
        return {
            "total_events": self._history.total,
            "by_type": self._history.by_type(),
            "handlers": len(self._handlers),
            "history_size": len(self._history),
        }

    def clear_history(self) -> None:
        """Forget the events; the statistics stay."""
        self._history.clear()

    def reset_stats(self) -> None:
        """Begin to count from zero, failures too; the history stays."""
        self._history.reset_counts()
        self.handler_failures = 0

    def _event(
        self, event_type: str, data: dict[str, Any] | None, prd_id: str | None, story_id: str | None, ids: EventIds
    ) -> Event:
        now = self._clock.now_us() // 1000
        event_id = new_event_id(self._clock)
        event = Event(
            event_type,
            {} if data is None else dict(data),  # a copy: the history keeps what was emitted
            id=event_id,
            prd_id=prd_id,
            story_id=story_id,
            at=now,
            received_at=now,
            **ids,
        )
        event.source = event.source or "python"
        return event

    def _call(self, subscription: Subscription, event: Event) -> Awaitable[Any] | None:
        """Call a handler if it is its turn; what is left to await."""
        try:
            wanted = subscription.filter_func is None or subscription.filter_func(event)
            if not wanted or not self._handlers.take_turn(subscription):
                return None
            result = subscription.handler(event)
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - handlers may raise anything; reported
            self._failed(subscription, failure)
            return None
        return result if inspect.isawaitable(result) else None

    async def _finish(self, subscription: Subscription, result: Awaitable[Any]) -> None:
        try:
            await result
        except asyncio.CancelledError as failure:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(subscription, failure)  # the handler awaited something that was cancelled; we were not
        except Exception as failure:  # noqa: BLE001 - as in _call
            self._failed(subscription, failure)

    async def _finish_all(self, left: deque[Unfinished], previous: asyncio.Task[None] | None = None) -> None:
        if previous is not None and previous.get_loop() is asyncio.get_running_loop() and not previous.done():
            await asyncio.wait([previous])
        while left:
            await self._finish(*left.popleft())

    def _failed(self, subscription: Subscription, failure: BaseException) -> None:
        with self._lock:
            self.handler_failures += 1
        log.error("event handler failed", handler=subscription.name, pattern=subscription.pattern, exc_info=failure)


def _discard(left: deque[Unfinished]) -> None:
    """Close what an interruption left unawaited, so that Python does not warn of it later."""
    for _, result in left:
        if inspect.iscoroutine(result):
            result.close()


_making = threading.Lock()


@cache
def _default_bus() -> EventBus:
    return EventBus()


def get_event_bus() -> EventBus:
    """The bus that module-level ``emit``, ``subscribe`` and ``unsubscribe`` use: one a process, made when first asked
    for. The server has a bus of its own."""
    with _making:  # `cache` alone may make two for two threads
        return _default_bus()


async def emit(
    event_type: str,
    data: dict[str, Any] | None = None,
    prd_id: str | None = None,
    story_id: str | None = None,
    **ids: Unpack[EventIds],
) -> Event:
    """``get_event_bus().emit``."""
    return await get_event_bus().emit(event_type, data, prd_id, story_id, **ids)


def subscribe(
    pattern: str,
    handler: Handler,
    priority: int = EventPriority.NORMAL.value,
    filter_func: Predicate | None = None,
    name: str | None = None,
) -> str:
    """``get_event_bus().subscribe``."""
    return get_event_bus().subscribe(pattern, handler, priority, filter_func, name)


def unsubscribe(handler_id: str) -> bool:
    """``get_event_bus().unsubscribe``."""
    return get_event_bus().unsubscribe(handler_id)

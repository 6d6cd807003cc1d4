"""One connected Socket.IO client: who it is, what it is being fed, and how that changes when it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from claude_loop.clock import Clock
from claude_loop.errors import Forbidden
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL
from claude_loop.hub import Hub
from claude_loop.ids import Cursor
from claude_loop.progress.state_feed import StateFeed
from claude_loop.progress.watch import Watch
from claude_loop.settings import LimitSettings
from claude_loop.subscription import Opened, Subscription
from claude_loop.supervision import TaskOwner
from claude_loop.transports import wire
from claude_loop.transports.auth import Principal, Scope
from claude_loop.transports.engineio_socket import LoopSocket
from claude_loop.transports.fan_out import FanOut
from claude_loop.transports.feeds import BatchFeed, EventFeed
from claude_loop.transports.outbox import Frame
from claude_loop.transports.outlet import Feed
from claude_loop.transports.prd_interest import PrdInterest, PrdKey
from claude_loop.transports.publishing import Account
from claude_loop.transports.pump import Pump
from claude_loop.transports.state_pump import StatePump


class Client:
    """Holds at most three pumps: for `subscribe`, for `watch`, and for single events (`subscribe_prd`, or all)."""

    def __init__(
        self,
        sid: str,
        socket: LoopSocket,
        principal: Principal,
        *,
        hub: Hub,
        tasks: TaskOwner,
        fan_out: FanOut,
        limits: LimitSettings,
        clock: Clock,
    ) -> None:
        self.sid = sid
        self.socket = socket
        self.principal = principal
        self.account = Account(limits, clock)
        self.prds = PrdInterest()
        self.batches: BatchFeed | None = None
        self.events: EventFeed | None = None
        self._narrowed = False
        self._connected_at: Cursor | None = None
        self._gone = False
        self._hub = hub
        self._tasks = tasks
        self._fan_out = fan_out
        self._batch_pump: asyncio.Task[None] | None = None
        self._event_pump: asyncio.Task[None] | None = None
        self._state_pump: asyncio.Task[None] | None = None

    def require(self, scope: Scope) -> None:
        """Raises ``Forbidden`` unless the client may."""
        if not self.principal.may(scope):
            raise Forbidden(
                f"A caller known by {self.principal.kind} has no right to {scope}.",
                hint='Connect with `auth: {"token": ...}`; the token is in the file `token` of the state directory.',
            )

    def send(self, name: str, payload: Any) -> None:
        self.socket.push([Frame(wire.message(name, payload))])

    @property
    def lag(self) -> int:
        """Events between the head of the log and what the slower of the two pumps has passed."""
        head = self._hub.state.head
        return max((head - feed.told.seq for feed in (self.batches, self.events) if feed is not None), default=0)

    @property
    def subscriptions(self) -> int:
        return (self.batches is not None) + len(self.prds)

    def statistics(self) -> dict[str, Any]:
        """``lag`` counts events, ``queued`` packets that have not left, ``in_flight`` publishes without an answer."""
        return {
            "sid": self.sid,
            "principal": self.principal.kind,
            "transport": "polling" if self.socket.on_polling else "websocket",
            "sub": None if self.batches is None else self.batches.sub,
            "prds": sorted(self.prds.prd_ids),
            "lag": self.lag,
            "queued": len(self.socket.queue),
            "in_flight": self.account.in_flight,
        }

    def leave(self) -> None:
        """The client is gone, or about to go: it is fed nothing more."""
        self._gone = True
        _cancel(self._batch_pump)
        _cancel(self._event_pump)
        _cancel(self._state_pump)
        self.batches = self.events = None

    # --- `subscribe`

    def follow(self, opened: Opened, max_batch: int) -> None:
        """Feed batches of ``opened`` from now on, in place of what was followed before."""
        self.narrow()
        _cancel(self._batch_pump)
        if not self._gone:
            self.batches = BatchFeed(opened.subscription, max_batch)
            self._batch_pump = self._start(self.batches, "batches")

    # --- `watch`

    def look_at(self, watch: Watch, state: StateFeed) -> None:
        """Feed what changes in the documents of ``watch`` from now on, in place of what was watched before."""
        self.narrow()
        _cancel(self._state_pump)
        if self._gone:
            state.forget(watch)
            return
        task = self._state_pump = self._run(StatePump(self.socket, watch).run(), "state")
        task.add_done_callback(lambda _task: state.forget(watch))

    # --- single events

    def watch_everything(self) -> None:
        """Feed every event from now on, for a client that has not said what it wants."""
        self._connected_at = self._hub.state.head_cursor
        self._resume(self._connected_at, [])

    def narrow(self) -> None:
        """The client has shown that it is no mere onlooker: from now on it sees what it asks for."""
        if not self._narrowed:
            told, _ = self._pause()
            self._narrow(told)
            self.events = None

    async def hold_prd(self, key: PrdKey, history: int, announce: Callable[[], None]) -> None:
        """Feed the events of ``key`` from now on, and before them its last ``history`` ones that were not sent yet.

        ``announce`` is called before the first of them goes out. Raises ``InvalidRequest`` when too many are held.
        """
        told, unsent = self._pause()
        try:
            newest = await self._hub.log.read_backwards(told.seq + 1, history, key.as_filter()) if history else []
            self.prds.add(key, told.seq)
            self._narrow(told)
            announce()
            unsent += self.prds.unsent(key, newest)
        finally:
            self._resume(told, unsent)

    def drop_prd(self, prd_id: str, project: str | None) -> None:
        told, unsent = self._pause()
        self.prds.remove(prd_id, project)
        self._resume(told, [event for event in unsent if not self._narrowed or self.prds.wants(event)])

    def _narrow(self, told: Cursor) -> None:
        if not self._narrowed and self._connected_at is not None:
            self.prds.saw_everything(self._connected_at.seq, told.seq)
        self._narrowed = True

    def _pause(self) -> tuple[Cursor, list[Event]]:
        """Stop feeding single events: how far the client has been told, and what it has not had of the history."""
        _cancel(self._event_pump)
        if self.events is None:
            return self._hub.state.head_cursor, []
        return self.events.told, list(self.events.history)

    def _resume(self, told: Cursor, history: list[Event]) -> None:
        self.events = None
        everything = not self._narrowed and self.principal.may("read")
        if self._gone or not (everything or self.prds):
            return
        filter_ = MATCH_ALL if everything else self.prds.as_filter()
        wants = None if everything or self.prds.is_exact else self.prds.wants
        self.events = EventFeed(Subscription(self._hub, filter_, told), wants, history)
        self._event_pump = self._start(self.events, "events")

    def _start(self, feed: Feed, name: str) -> asyncio.Task[None]:
        return self._run(Pump(self.socket, feed, self._fan_out).run(), name)

    def _run(self, pump: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.spawn(pump, f"{name} of {self.sid}")
        task.add_done_callback(self._pump_ended)
        return task

    def _pump_ended(self, task: asyncio.Task[None]) -> None:
        # A client that is fed no more must not believe that nothing happens: it connects again and resumes.
        if not task.cancelled() and task.exception() is not None:
            self.socket.cut_off("its events could not be read")


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()

"""What each of a Socket.IO client's events means."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from claude_loop.errors import ClaudeLoopError, Internal, NotSupported
from claude_loop.hub import Hub
from claude_loop.progress.state_feed import StateFeed
from claude_loop.progress.watch import Watch
from claude_loop.subscription import Opened
from claude_loop.supervision import TaskOwner
from claude_loop.transports import socketio_requests as read
from claude_loop.transports.publishing import Publisher
from claude_loop.transports.socketio_client import Client
from claude_loop.transports.socketio_server import Reply

log = structlog.get_logger(__name__)

# What an embedding program may add: called with the client's sid and its payload, sync or async.
Handler = Callable[[str, Any], Any]


class ClientEvents:
    """Handles the events of all clients; those of one client come one after the other.

    ``handlers`` are an embedding program's own; ``subscriptions`` maps each PRD of `subscribe_prd` to the sids that
    hold it; ``on_refused`` hears of errors that are found only after ``handle`` has returned.
    """

    def __init__(
        self,
        hub: Hub,
        state: StateFeed,
        publisher: Publisher,
        handlers: dict[str, Handler],
        subscriptions: dict[str, set[str]],
        *,
        tasks: TaskOwner,
        on_refused: Callable[[ClaudeLoopError], None],
    ) -> None:
        self._hub = hub
        self._state = state
        self._publisher = publisher
        self._handlers = handlers
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._on_refused = on_refused
        self._known: dict[str, Callable[[Client, Any, Reply], Awaitable[None]]] = {
            "event": self._publish,
            "subscribe": self._subscribe,
            "watch": self._watch,
            "subscribe_prd": self._subscribe_prd,
            "unsubscribe_prd": self._unsubscribe_prd,
            "control_prd": self._control_prd,
        }

    async def handle(self, client: Client, name: str, payload: Any, reply: Reply) -> None:
        """Raises ``ClaudeLoopError`` for what is refused."""
        known = self._known.get(name)
        if known is not None:
            await known(client, payload, reply)
        elif name in self._handlers:
            client.require("emit")
            self._call(client, self._handlers[name], payload, reply.ok, reply)
        else:
            hint = f"Names are {', '.join(self._known)}."
            raise NotSupported(f"“{read.shown(name)}” is not an event of this server.", hint=hint)

    async def _publish(self, client: Client, payload: Any, reply: Reply) -> None:
        client.require("emit")
        self._publisher.publish(client.account, payload, reply.ok, lambda error: self._refuse(reply, error))
        client.narrow()

    async def _subscribe(self, client: Client, payload: Any, reply: Reply) -> None:
        client.require("read")
        wanted = read.subscribe(payload)
        opened = await self._hub.subscribe(wanted.filter, wanted.start)
        reply.ok({"ok": True, **opened_answer(opened)})
        client.follow(opened, wanted.max_batch)  # last, so that the answer comes before the first events

    async def _watch(self, client: Client, payload: Any, reply: Reply) -> None:
        client.require("read")
        watch = await self._state.watch(read.watch(payload))
        reply.ok(watch_answer(watch, self._state, self._hub))
        client.look_at(watch, self._state)  # last, so that the documents come before what changes in them

    async def _subscribe_prd(self, client: Client, payload: Any, reply: Reply) -> None:
        client.require("read")
        wanted = read.subscribe_prd(payload)

        def announce() -> None:
            self._subscriptions.setdefault(wanted.key.prd_id, set()).add(client.sid)
            reply.ok({"ok": True})
            client.send("subscribed", {"prd_id": wanted.key.prd_id})

        await client.hold_prd(wanted.key, wanted.history, announce)

    async def _unsubscribe_prd(self, client: Client, payload: Any, reply: Reply) -> None:
        key = read.subscribe_prd(payload).key
        client.drop_prd(key.prd_id, key.project)
        if key.prd_id not in client.prds:
            self.forget_holder(key.prd_id, client.sid)
        reply.ok({"ok": True})
        client.send("unsubscribed", {"prd_id": key.prd_id})

    def forget_holder(self, prd_id: str, sid: str) -> None:
        holders = self._subscriptions.get(prd_id, set())
        holders.discard(sid)
        if not holders:
            self._subscriptions.pop(prd_id, None)

    async def _control_prd(self, client: Client, payload: Any, reply: Reply) -> None:
        handler = self._handlers.get("control_prd")
        if handler is None:
            hint = "An embedding program may register a handler."
            raise NotSupported("Nothing here takes commands for PRDs.", hint=hint)
        client.require("control")
        command = read.control_prd(payload)

        def answer(result: Any) -> None:
            client.send("control_result", {**command, "result": result})
            reply.ok({"ok": True, "result": result})

        self._call(client, handler, payload, answer, reply)

    def _call(
        self, client: Client, handler: Handler, payload: Any, answer: Callable[[Any], None], reply: Reply
    ) -> None:
        """Run a handler beside the client's other events; it counts as one of those in flight."""

        async def run() -> None:
            try:
                result = handler(client.sid, payload)
                answer(await result if inspect.isawaitable(result) else result)
            except ClaudeLoopError as error:
                self._refuse(reply, error)
            except Exception:
                log.exception("a handler failed", sid=client.sid)
                self._refuse(reply, Internal("The handler failed."))
            finally:
                client.account.leave()

        client.account.enter()
        self._tasks.spawn(run(), f"handler for {client.sid}")

    def _refuse(self, reply: Reply, error: ClaudeLoopError) -> None:
        self._on_refused(error)
        reply.error(error)


def opened_answer(opened: Opened) -> dict[str, Any]:
    """``{"sub", "status", "cursor", "reason"?}``."""
    subscription = opened.subscription
    answer = {"sub": subscription.filter.key, "status": opened.status, "cursor": str(subscription.cursor)}
    return answer if opened.reason is None else {**answer, "reason": opened.reason}


def watch_answer(watch: Watch, state: StateFeed, hub: Hub) -> dict[str, Any]:
    """``{"ok", "seq", "cursor", "now", "stalled_after_ms", "documents"}``: all a page needs to begin."""
    return {
        "ok": True,
        "seq": watch.seq,
        "cursor": str(hub.state.head_cursor),
        "now": state.now_ms,
        "stalled_after_ms": state.stalled_after_ms,
        "documents": watch.documents,
    }

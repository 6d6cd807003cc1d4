"""Notifications as the daemon runs them: a reader of the log that looks at the read model, and a task for each channel.

The reader's place is stored with what it found there, in one transaction, so a crash repeats a look and never skips
one; and since a message's name is unique, a repeated look finds nothing to add.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from claude_loop.clock import Clock, rfc3339
from claude_loop.delivery.channel import STORAGE_RETRY, Channel, Sends
from claude_loop.delivery.conditions import Subject
from claude_loop.delivery.dispatch import Dispatch, targets_of
from claude_loop.delivery.look import Policy, everything, look, subject_of, unfinished
from claude_loop.delivery.messages import Message
from claude_loop.delivery.outbox import Outbox
from claude_loop.delivery.record import event_of
from claude_loop.delivery.words import name
from claude_loop.errors import InvalidCursor, LoadError, ShuttingDown
from claude_loop.hub import Hub
from claude_loop.ids import Cursor
from claude_loop.paths import Home
from claude_loop.progress.keys import run_key
from claude_loop.settings import Settings
from claude_loop.subscription import NOW, Reset, Start, Subscription
from claude_loop.supervision import TaskOwner

log = structlog.get_logger(__name__)

T = TypeVar("T")
# Commits come singly; a look is worth more when it is about many.
GATHER_SECONDS = 0.2
LONGEST_SLEEP = 5.0
_PRUNE_EVERY_MS = 3_600_000
_DEAD_LETTERS = 10


class Notifier:
    """Serves one hub. Made only where there are channels; ``run`` ends when it is cancelled or the hub stops."""

    def __init__(
        self,
        hub: Hub,
        home: Home,
        settings: Settings,
        clock: Clock,
        url: Callable[[], str],
        dispatch: Sends | None = None,
    ) -> None:
        self._hub = hub
        self._path = home.outbox
        self._clock = clock
        self._stalled_after_ms = round(settings.stalled_after * 1000)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notify")
        self._outbox: Outbox | None = None
        self._targets = targets_of(settings.notify)
        dispatch = dispatch or Dispatch(home.receipts)
        link_base = (lambda: settings.monitor_url) if settings.monitor_url else url
        self._channels = [
            Channel(target, self._ask, dispatch, clock, link_base, self._tell_log) for target in self._targets
        ]
        self._resolving = frozenset(target.name for target in self._targets if target.settings.resolved)
        self._policy: Policy | None = None
        self._due: dict[Subject, int] = {}
        self._touched: dict[Subject, set[str]] = {}
        self._to_log = asyncio.Event()
        self._pruned_at = 0

    # --- as tasks of the daemon

    def start(self, tasks: TaskOwner) -> None:
        tasks.spawn(self.run(), "reader")
        tasks.spawn(self._keep_log_told(), "record")
        for channel in self._channels:
            tasks.spawn(channel.run(), channel.target.name)

    async def close(self) -> None:
        """Let go of the file. The tasks must have ended."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except ShuttingDown:
                return
            except (sqlite3.Error, OSError) as failure:
                log.warning("notifications cannot be stored", reason=type(failure).__name__)
                await asyncio.sleep(STORAGE_RETRY)
            except LoadError as failure:
                log.warning("notifications wait for the log", code=failure.code)
                await asyncio.sleep(STORAGE_RETRY)

    # --- the reader

    async def _follow(self) -> None:
        now = self._now()
        names = [target.name for target in self._targets]
        self._policy = Policy(self._targets, await self._ask(lambda outbox: outbox.begin_channels(names, now)))
        subscription = await self._resume()
        _, going_on = await self._hub.log.snapshot(unfinished)
        self._touch([*going_on, *await self._ask(lambda outbox: outbox.lasting())])
        while True:
            await self._look(str(subscription.cursor))
            await self._news(subscription)

    async def _resume(self) -> Subscription:
        stored = await self._ask(lambda outbox: outbox.cursor())
        try:
            start = NOW if stored is None else Start("cursor", cursor=Cursor.parse(stored))
        except InvalidCursor:
            start = NOW
        opened = await self._hub.subscribe(start=start)
        if opened.status != "resumed":  # its place is not known: whatever is recent enough counts
            await self._touch_everything()
        return opened.subscription

    async def _touch_everything(self) -> None:
        _, subjects = await self._hub.log.snapshot(everything)
        self._touch(subjects)

    def _touch(self, subjects: Iterable[Subject]) -> None:
        for subject in subjects:
            self._touched.setdefault(subject, set())

    async def _news(self, subscription: Subscription) -> None:
        """Wait for events, or for time to change something, and note what is to be looked at."""
        try:
            async with asyncio.timeout(self._patience()):
                await subscription.wait()
        except TimeoutError:
            pass  # the time has come for what follows
        else:
            await asyncio.sleep(GATHER_SECONDS)
            while subscription.lag:
                await self._take(subscription)
        now = self._now()
        self._touch(subject for subject, due in self._due.items() if due <= now)

    async def _take(self, subscription: Subscription) -> None:
        outcome = await subscription.next()
        if isinstance(outcome, Reset):
            await self._touch_everything()
            return
        for event in outcome.events:
            subject = subject_of(event)
            if subject is not None:
                keys = self._touched.setdefault(subject, set())
                if event.prd_id is not None and event.run_id is not None:
                    keys.add(run_key(event.project, event.prd_id, event.run_id))

    def _patience(self) -> float:
        due = min(self._due.values(), default=None)
        return LONGEST_SLEEP if due is None else min(LONGEST_SLEEP, max(0.0, (due - self._now()) / 1000))

    async def _look(self, cursor: str) -> None:
        assert self._policy is not None  # noqa: S101 - for the type checker: made before
        if any(subject.prd_id is None for subject in self._touched):
            # Where many sessions begin, one that waits may be let go of.
            self._touch(subject for subject in self._due if subject.prd_id is None)
        touched, policy, now = dict(self._touched), self._policy, self._now()
        if touched:
            lasting = await self._ask(lambda outbox: {subject: outbox.lasting_runs(subject) for subject in touched})
            wanted = {subject: keys.union(lasting[subject]) for subject, keys in touched.items()}
            _, seen = await self._hub.log.snapshot(lambda stored: look(stored, wanted, now, self._stalled_after_ms))
            found = [(condition, policy.plans(condition, now)) for condition in seen.conditions]
            await self._ask(
                lambda outbox: outbox.settle_look(
                    seen.due, found, seen.forgotten, self._resolving, cursor, now, given_up=seen.given_up
                )
            )
            for subject in touched:
                self._due.pop(subject, None)
            self._due |= {subject: due for subject, due in seen.due.items() if due is not None}
            self._touched.clear()
            for channel in self._channels:
                channel.wake()
        if now - self._pruned_at > _PRUNE_EVERY_MS:
            await self._ask(lambda outbox: outbox.prune(now))
            self._pruned_at = now

    # --- the record in the log

    def _tell_log(self) -> None:
        self._to_log.set()

    async def _keep_log_told(self) -> None:
        """What was sent stands in the log, once: the event's id is the message's."""
        while True:
            try:
                self._to_log.clear()  # before looking: what comes meanwhile is not missed
                while messages := await self._ask(lambda outbox: outbox.unlogged()):
                    await self._record(messages)
                await self._to_log.wait()
            except ShuttingDown:
                return
            except (LoadError, sqlite3.Error, OSError) as failure:
                log.warning("what was sent cannot be recorded yet", reason=type(failure).__name__)
                await asyncio.sleep(STORAGE_RETRY)

    async def _record(self, messages: list[Message]) -> None:
        urgent = {target.name: frozenset(target.settings.urgent) for target in self._targets}
        events = [event_of(message, message.condition.kind in urgent[message.channel]) for message in messages]
        for outcome in await self._hub.publish(events):
            if outcome.error is not None:
                log.warning("what was sent could not be recorded", code=outcome.error.code)
        await self._ask(lambda outbox: outbox.logged(messages))

    # --- what people are told

    async def report(self) -> dict[str, Any]:
        """For `/status`: no address is in it."""
        try:
            counts, dead = await self._ask(lambda outbox: (outbox.counts(), outbox.dead_letters(_DEAD_LETTERS)))
            failure = None
        except (sqlite3.Error, OSError) as problem:
            counts, dead, failure = {}, [], type(problem).__name__
        return {
            "channels": [_channel_state(channel, counts.get(channel.target.name, {})) for channel in self._channels],
            "dead_letters": [_dead_letter(message) for message in dead],
            "failure": failure,
        }

    # --- below

    async def _ask(self, work: Callable[[Outbox], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._open()))

    def _open(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox(self._path)
        return self._outbox

    def _drop(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def _now(self) -> int:
        return self._clock.now_us() // 1000


def _channel_state(channel: Channel, counts: dict[str, int]) -> dict[str, Any]:
    settings = channel.target.settings
    return {
        "name": channel.target.name,
        "by": "command" if settings.command else "address",
        "kinds": list(settings.kinds),
        "waiting": counts.get("pending", 0) + counts.get("sending", 0),
        "sent": counts.get("sent", 0),
        "dead": counts.get("dead", 0),
        "last_sent_at": _time(channel.last_sent_at),
        "failing_since": _time(channel.failing_since),
        "reason": channel.last_reason,
    }


def _dead_letter(message: Message) -> dict[str, Any]:
    condition = message.condition
    return {
        "channel": message.channel,
        "kind": condition.kind,
        "project": condition.project,
        "prd_id": condition.prd_id,
        "session_id": condition.session_id,
        "about": name(condition),
        "since": _time(condition.since),
        "attempts": message.attempts,
        "reason": message.reason,
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)

"""The spine: one way in, and readers that replay, then follow.

An event exists once the log has committed it. Only then does the hub put it into the ring, wake the readers and
tell the bus, in that order, so that whoever is awake finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from claude_loop.errors import LoadError, ShuttingDown
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.base import Appended, Chain, EventLog, LogState, SpoolOffset
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.ids import Cursor, id_digest
from claude_loop.ring import Ring
from claude_loop.subscription import Batch, Opened, Reset, ResetReason, Start, Subscription
from claude_loop.supervision import TaskOwner

log = structlog.get_logger(__name__)

# A batch ends at a multiple of this many events, so that readers who started apart soon share batches.
BATCH_EVENTS = 256
BATCH_BYTES = 65_536
# How many batches are kept for readers that come to the same place; together at most this many × BATCH_BYTES.
SHARED_BATCHES = 64
# The bus waits this long, in seconds, before it reads again from a log that could not be read.
BUS_RETRY = 1.0


class Hub:
    """Publishes into one log and serves its readers. Used from one event loop."""

    def __init__(self, log: EventLog, bus: EventBus, *, ring: Ring | None = None) -> None:
        self.log = log
        self.bus = bus
        self._ring = Ring() if ring is None else ring  # an empty ring is false
        self._tasks = TaskOwner("hub")
        self._batches: dict[tuple[str, int], asyncio.Future[Batch | Reset]] = {}
        self._committed: asyncio.Future[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Open the log and begin to feed the bus. A hub is started once."""
        await self.log.open(self._announce)
        # Subscribed here, not in the task: what is published before that first runs is for the bus too.
        self._tasks.spawn(self._feed_bus((await self.subscribe()).subscription), "bus feeder")

    async def stop(self) -> None:
        """Finish what was submitted, then close the log. Whoever still reads or publishes gets ``ShuttingDown``."""
        self._stopped = True
        if self._committed is not None:
            self._committed.set_exception(_stopping())
            self._committed.exception()  # nobody has to be waiting
            self._committed = None
        await self._tasks.close()
        await self.log.close()

    @property
    def state(self) -> LogState:
        return self.log.state

    def submit(self, events: Sequence[Event]) -> asyncio.Future[list[Appended]]:
        """Queue accepted events for the next commit; order of calls is order in the log.

        The future gives an ``Appended`` for each event once they are durable, or raises a ``LoadError``.
        """
        return _refused() if self._stopped else self.log.append(events)

    def submit_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        """As ``submit``, of the events that ``make`` makes, ``most`` at most, when they are due: see the log."""
        return _refused() if self._stopped else self.log.append_made(make, most, offsets, chain)

    async def publish(self, events: Sequence[Event]) -> list[Appended]:
        """As ``submit``, and wait."""
        return await self.submit(events)

    def _announce(self, events: list[Event], state: LogState) -> None:
        del state
        self._ring.extend(events)
        if self._committed is not None:
            self._committed.set_result(None)
            self._committed = None

    def next_commit(self) -> asyncio.Future[None]:
        """A future that is done at the next announcement; one for each caller, who may cancel it.

        Raises ``ShuttingDown``, at once or through the future, when there will be none.
        """
        self._insist_on_running()
        if self._committed is None:
            self._committed = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._committed)

    async def subscribe(self, filter_: Filter = MATCH_ALL, start: Start | None = None) -> Opened:
        """Open a subscription. An unusable cursor gives status ``reset`` with the reason, never a silent gap.

        Raises ``LoadError`` when the log cannot be read.
        """
        self._insist_on_running()
        start = start or Start("now")
        if start.cursor is not None:
            return await self._resume(filter_, start.cursor)
        position = await self._position(filter_, start)
        return Opened(Subscription(self, filter_, position), "fresh")

    async def _position(self, filter_: Filter, start: Start) -> Cursor:
        if start.kind == "now":
            return self.state.head_cursor
        if start.kind == "start":
            return self.state.trimmed_cursor
        if start.kind == "since":
            return await self.cursor_at(await self.log.position_since(start.since_ms))
        head = self.state.head_cursor
        if start.last == 0:
            return head
        if filter_.is_empty:  # numbers have no gaps: no need to read what will be read again
            return await self.cursor_at(head.seq - start.last)
        newest = await self.log.read_backwards(head.seq + 1, start.last, filter_)
        return await self.cursor_at(newest[-1].seq - 1) if newest else head

    async def cursor_at(self, seq: int) -> Cursor:
        """The cursor of a position; the oldest one there is if the position has been trimmed."""
        state = self.state
        event = self._ring.get(seq)
        if event is not None:
            return Cursor(state.epoch, seq, id_digest(event.id))
        digest = await self.log.digest_at(seq)
        return Cursor(state.epoch, seq, digest) if digest is not None else self.state.trimmed_cursor

    async def _resume(self, filter_: Filter, cursor: Cursor) -> Opened:
        state = self.state
        reason: ResetReason | None = None
        if cursor.epoch != state.epoch:
            reason = "epoch"
        elif cursor.seq > state.head:
            reason = "ahead"
        elif cursor.seq < state.first - 1:
            reason = "trimmed"
        else:
            found = await self.cursor_at(cursor.seq)
            if found.seq != cursor.seq:  # pruned while we looked
                reason = "trimmed"
            elif found.digest != cursor.digest:
                reason = "diverged"
        if reason is None:
            return Opened(Subscription(self, filter_, cursor), "resumed")
        position = self.state.trimmed_cursor if reason == "trimmed" else self.state.head_cursor
        return Opened(Subscription(self, filter_, position), "reset", reason)

    async def batch_after(self, position: Cursor, filter_: Filter) -> Batch | Reset:
        """The next batch for a reader at ``position``, which must be behind the head. Shared between readers.

        Raises ``LoadError`` when the log cannot be read; the reader is then where it was, and may try again.
        """
        self._insist_on_running()
        shared = self._batches.get((filter_.key, position.seq))
        if shared is not None and _reusable(shared):
            return shared.result() if shared.done() else await _outcome_of(shared)
        batch = self.batch_in_memory(position, filter_, self.state.head)
        if batch is not None:
            return batch
        if position.seq < self.state.first - 1:
            return Reset("trimmed", self.state.trimmed_cursor)
        reading = self._tasks.spawn(self._batch_from_log(position, filter_), f"read after {position.seq}")
        self._share((filter_.key, position.seq), reading)
        return await _outcome_of(reading)

    def batch_in_memory(self, position: Cursor, filter_: Filter, head: int) -> Batch | None:
        """As ``batch_after``, up to ``head``. None when the log has to be read for it, or the reader to be told of a
        reset. Readers that come here move together, so they do not share what one that moves alone has left short."""
        key = (filter_.key, position.seq)
        shared = self._batches.get(key)
        if shared is not None and not shared.done():
            return None
        if shared is not None and _reusable(shared):
            known = shared.result()
            if isinstance(known, Batch) and (known.is_full or known.upto.seq >= head):
                return known
        if position.seq < self.state.first - 1 or not self._ring.covers(position.seq):
            return None
        batch = self._batch_from_ring(position, filter_, head)
        self._share(key, batch)
        return batch

    def blank(self, forgetting: Event) -> None:
        """Let go of what is in memory of the events that ``forgetting`` made forgotten. The log does so for itself."""
        held = [*self._ring, *self.bus.get_history(limit=None)]
        for event in held:
            if event.is_forgotten_by(forgetting):
                event.blank()
        self._batches.clear()  # with the frames made of them

    def _insist_on_running(self) -> None:
        if self._stopped:
            raise _stopping()

    def _share(self, key: tuple[str, int], batch: Batch | asyncio.Future[Batch | Reset]) -> None:
        if isinstance(batch, Batch):
            future: asyncio.Future[Batch | Reset] = asyncio.get_running_loop().create_future()
            future.set_result(batch)
        else:
            future = batch
        self._batches[key] = future
        while len(self._batches) > SHARED_BATCHES:
            del self._batches[next(iter(self._batches))]

    def _batch_from_ring(self, position: Cursor, filter_: Filter, head: int) -> Batch:
        end = _aligned_end(position.seq)
        upto = min(head, end)
        scanned = self._ring.slice(position.seq, upto)
        wanted = filter_.select(scanned)
        matching = within(BATCH_BYTES, wanted)
        if len(matching) < len(wanted):
            upto = wanted[len(matching)].seq - 1
        last = scanned[upto - position.seq - 1]
        is_full = upto == end or len(matching) < len(wanted)
        return Batch(position, Cursor(position.epoch, upto, id_digest(last.id)), matching, is_full)

    async def _batch_from_log(self, position: Cursor, filter_: Filter) -> Batch | Reset:
        page = await self.log.read(position.seq, BATCH_EVENTS, filter_, max_bytes=BATCH_BYTES)
        if position.seq < page.first - 1:
            return Reset("trimmed", self.state.trimmed_cursor)
        if page.events and page.events[-1].seq == page.upto:
            upto = Cursor(position.epoch, page.upto, id_digest(page.events[-1].id))
        else:
            upto = await self.cursor_at(page.upto)
            if upto.seq != page.upto:  # pruned while we read: what lies between has not been searched
                if not page.events:
                    return Reset("trimmed", upto)
                upto = Cursor.at(position.epoch, page.events[-1].seq, page.events[-1].id)
        return Batch(position, upto, page.events)

    async def _feed_bus(self, reader: Subscription) -> None:
        """A reader like any other: a slow handler delays the bus, never the log or another reader."""
        while True:
            try:
                outcome = await reader.next()
            except ShuttingDown:
                return  # a handler has stopped the hub
            except LoadError as failure:
                log.warning("the event bus waits for the log", code=failure.code)
                await asyncio.sleep(BUS_RETRY)
                continue
            if isinstance(outcome, Reset):
                log.warning("the event bus missed events", reason=outcome.reason)
                continue
            if self.bus.listener_count() == 0:
                self.bus.record(outcome.events)
                continue
            for event in outcome.events:
                await self.bus.dispatch(event)


def within(max_bytes: int, events: list[Event]) -> list[Event]:
    """The first events whose JSON together has at most ``max_bytes``; at least one."""
    size = 0
    for count, event in enumerate(events):
        size += len(event.json)
        if size > max_bytes and count:
            return events[:count]
    return events


def _aligned_end(after: int) -> int:
    return (after // BATCH_EVENTS + 1) * BATCH_EVENTS


def _refused() -> asyncio.Future[list[Appended]]:
    refusal: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
    refusal.set_exception(_stopping())
    return refusal


def _stopping() -> ShuttingDown:
    return ShuttingDown("The daemon is stopping.")


async def _outcome_of(shared: asyncio.Future[Batch | Reset]) -> Batch | Reset:
    """The outcome of a read that others wait for too: a reader that is cancelled leaves it to them."""
    try:
        return await asyncio.shield(shared)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if shared.cancelled() and (task is None or not task.cancelling()):
            raise _stopping() from None  # the hub's end, which is not the reader's
        raise


def _reusable(shared: asyncio.Future[Batch | Reset]) -> bool:
    """A failed read is tried again, and a reset is told afresh. A batch that newer events could have made longer
    is still right, and keeps the readers that share it together."""
    if not shared.done():
        return True
    return not shared.cancelled() and shared.exception() is None and isinstance(shared.result(), Batch)

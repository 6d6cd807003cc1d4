"""The two ways a Socket.IO client is fed: frames of many events for `subscribe`, one event a message for the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from claude_loop.events import Event
from claude_loop.hub import BATCH_BYTES, BATCH_EVENTS
from claude_loop.ids import Cursor
from claude_loop.subscription import Batch, Reset, Subscription
from claude_loop.transports import wire
from claude_loop.transports.outbox import Frame

# Frames of one batch differ only by where their readers stood before; a few such variants are worth keeping.
_MAX_VARIANTS = 8


class BatchFeed:
    """`events` frames for `subscribe`: each says where it begins and ends, so that its reader can tell a gap.

    Clients with equal filters that stand at the same place get the same frame.
    """

    def __init__(self, subscription: Subscription, max_batch: int = BATCH_EVENTS) -> None:
        self.subscription = subscription
        self.told = subscription.cursor
        self._told_at = _now()
        self._max_batch = max_batch

    @property
    def sub(self) -> str:
        return self.subscription.filter.key

    def backlog(self, size: int) -> Iterator[list[Frame]]:
        del size
        return iter(())

    def rounds(self, outcome: Batch | Reset, size: int) -> Iterator[list[Frame]]:
        del size  # a round is one frame
        if isinstance(outcome, Reset):
            self._tell(outcome.cursor)
            yield [reset_frame(outcome, self.sub)]
            return
        for upto, frame in self._frames(outcome):
            self._tell(upto)
            yield [frame]

    @property
    def untold_since(self) -> float | None:
        return None if self.told.seq == self.subscription.cursor.seq else self._told_at

    def position(self) -> list[Frame]:
        frame = Frame(wire.events_message(self.sub, self.told, self.subscription.cursor, ()))
        self._tell(self.subscription.cursor)
        return [frame]

    def _tell(self, cursor: Cursor) -> None:
        self.told = cursor
        self._told_at = _now()

    def _frames(self, batch: Batch) -> list[tuple[Cursor, Frame]]:
        key = f"events {self.told.seq} {self._max_batch}"
        frames: list[tuple[Cursor, Frame]] | None = batch.encoded.get(key)
        if frames is None:
            frames = list(self._encode(batch))
            if len(batch.encoded) < _MAX_VARIANTS:
                batch.encoded[key] = frames
        return frames

    def _encode(self, batch: Batch) -> Iterator[tuple[Cursor, Frame]]:
        prev, events = self.told, batch.events
        for start in range(0, len(events), self._max_batch):
            part = events[start : start + self._max_batch]
            rest = start + self._max_batch < len(events)
            upto = Cursor.at(batch.upto.epoch, part[-1].seq, part[-1].id) if rest else batch.upto
            yield upto, Frame(wire.events_message(self.sub, prev, upto, part))
            prev = upto


class EventFeed:
    """`event` messages, for clients of `subscribe_prd` and for those that never subscribed.

    ``wants`` passes on what the subscription's filter alone cannot tell apart; ``told`` is how far the client has been
    told: every event it should have up to there has been given out. ``history`` goes out first.
    """

    def __init__(
        self,
        subscription: Subscription,
        wants: Callable[[Event], bool] | None = None,
        history: Iterable[Event] = (),
    ) -> None:
        self.subscription = subscription
        self.told = subscription.cursor
        self.history = deque(history)
        self._wants = wants

    def backlog(self, size: int) -> Iterator[list[Frame]]:
        while self.history:
            frames: list[Frame] = []
            room = BATCH_BYTES
            while self.history and len(frames) < size and room > 0:
                frames.append(Frame(wire.event_message(self.history.popleft())))
                room -= len(frames[-1].utf8)
            yield frames

    def rounds(self, outcome: Batch | Reset, size: int) -> Iterator[list[Frame]]:
        if isinstance(outcome, Reset):
            self.told = outcome.cursor
            yield [reset_frame(outcome)]
            return
        wanted = self._wanted(outcome)
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            last = part[-1][0]
            self.told = Cursor.at(outcome.upto.epoch, last.seq, last.id)
            yield [frame for _, frame in part]
        self.told = outcome.upto

    untold_since = None  # such a client has no cursor

    def position(self) -> list[Frame]:
        return []

    def _wanted(self, batch: Batch) -> list[tuple[Event, Frame]]:
        frames: list[Frame] | None = batch.encoded.get("event")
        if frames is None:
            frames = batch.encoded["event"] = [Frame(wire.event_message(event)) for event in batch.events]
        pairs = zip(batch.events, frames, strict=True)
        return [(event, frame) for event, frame in pairs if self._wants is None or self._wants(event)]


def reset_frame(reset: Reset, sub: str | None = None) -> Frame:
    """``sub`` as in the `events` frames of the feed that is meant; None for the one of single events."""
    return Frame(wire.message("reset", {"reason": reset.reason, "cursor": str(reset.cursor), "sub": sub}))


def _now() -> float:
    return asyncio.get_running_loop().time()

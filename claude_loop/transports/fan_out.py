"""The fan-out serves the readers at the live edge together: one task, one beat, and no waiting for anyone.

A reader whose client has taken everything, and whose next events are in memory, needs no task of its own: its frames
are written straight to its connection. The first time that is not so, its pump goes on by itself, as slowly as its
client reads, and comes back when it can. So a hundred readers cost a hundred writes a beat, a stalled one nothing.
"""

from __future__ import annotations

import asyncio

from claude_loop.errors import ShuttingDown
from claude_loop.hub import BATCH_BYTES, BATCH_EVENTS, Hub
from claude_loop.supervision import TaskOwner
from claude_loop.transports.outlet import Feed, Outlet
from claude_loop.transports.pace import Pace

# So many readers are served before others on the event loop have their turn: some three milliseconds.
_AT_A_TIME = 64
# Batches end at common places, so what a reader is behind may lie in several; and its filter may leave little of each.
_BATCHES = 4


class _Follower:
    """A reader and its client; ``left`` is done when its pump has to go on by itself."""

    __slots__ = ("feed", "left", "level", "outlet")

    def __init__(self, outlet: Outlet, feed: Feed) -> None:
        self.outlet = outlet
        self.feed = feed
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.level = False  # how long a replay takes says nothing about the daemon

    @property
    def lag(self) -> int:
        return self.feed.subscription.lag


class FanOut:
    """Serves readers of one hub. ``quiet`` seconds without a frame, and a reader is told where it is."""

    def __init__(self, hub: Hub, pace: Pace, tasks: TaskOwner, quiet: float) -> None:
        self.pace = pace
        self._hub = hub
        self._tasks = tasks
        self.quiet = quiet
        self._followers: dict[int, _Follower] = {}
        self._serving: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()

    async def follow(self, outlet: Outlet, feed: Feed) -> None:
        """Serve a reader for as long as it is easy. Returns when something is ahead that its pump must see to."""
        follower = _Follower(outlet, feed)
        self._followers[id(follower)] = follower
        self._woken.set()
        if self._serving is None or self._serving.done():
            self._serving = self._tasks.spawn(self._serve(), "fan-out")
        try:
            await follower.left
        finally:
            self._followers.pop(id(follower), None)

    async def _serve(self) -> None:
        try:
            while self._followers:
                await self._beat()
                await self._serve_all()
        except ShuttingDown:
            pass  # each pump hears of it for itself
        finally:
            for follower in self._followers.values():
                _let_go(follower)

    async def _beat(self) -> None:
        """Return when somebody is to be served. Whoever is far behind does not wait for the beat."""
        while (lag := self._greatest_lag()) == 0:
            if not await self._woken_in_time():
                return
        if lag < BATCH_EVENTS:
            await self.pace.turn()
        else:
            await asyncio.sleep(0)

    def _greatest_lag(self) -> int:
        return max((follower.lag for follower in self._followers.values()), default=0)

    async def _woken_in_time(self) -> bool:
        """Wait for a commit or another reader; False when a quiet one is to be told where it is."""
        self._woken.clear()
        commit = self._hub.next_commit()
        commit.add_done_callback(self._wake)
        try:
            async with asyncio.timeout_at(self._quiet_until()):
                await self._woken.wait()
        except TimeoutError:
            return False
        finally:
            commit.cancel()
        return True

    def _wake(self, commit: asyncio.Future[None]) -> None:
        if not commit.cancelled():
            commit.exception()  # what is wrong shows when it is asked for the next one
            self._woken.set()

    def _quiet_until(self) -> float | None:
        untold = [since for follower in self._followers.values() if (since := follower.feed.untold_since) is not None]
        return min(untold) + self.quiet if untold else None

    async def _serve_all(self) -> None:
        followers, head = list(self._followers.values()), self._hub.state.head
        for start in range(0, len(followers), _AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            for follower in followers[start : start + _AT_A_TIME]:
                if not follower.left.done():  # else its pump was cancelled while others had their turn
                    self._serve_one(follower, head)

    def _serve_one(self, follower: _Follower, head: int) -> None:
        try:
            goes_on = self._deliver(follower, head)
        except Exception as failure:  # noqa: BLE001 - it ends this reader's pump, which says so, and nobody else's
            follower.left.set_exception(failure)
            goes_on = False
        if not goes_on:
            _let_go(follower)
            self._followers.pop(id(follower), None)

    def _deliver(self, follower: _Follower, head: int) -> bool:
        """Write what is ahead of a reader, as long as it is little; False when its pump has to see to it.

        Nobody is told of what comes after ``head``: readers that were served with others share their next frame too.
        """
        outlet, feed = follower.outlet, follower.feed
        if feed.subscription.cursor.seq >= head:
            return self._tell_position(follower)
        if not outlet.ready:
            return False
        room = BATCH_BYTES
        for _ in range(_BATCHES):
            batch = feed.subscription.next_in_memory(head)
            if batch is None:
                return False
            frames = [frame for part in feed.rounds(batch, BATCH_EVENTS) for frame in part]
            if frames:
                outlet.write(frames)
            room -= sum([len(frame.utf8) for frame in frames])
            if follower.level and batch.events:
                self.pace.delivered(batch.events[0].received_at)
            if room <= 0 or feed.subscription.cursor.seq >= head:
                break
        follower.level = follower.level or feed.subscription.cursor.seq >= head
        return True

    def _tell_position(self, follower: _Follower) -> bool:
        follower.level = True
        since = follower.feed.untold_since
        if since is None or since + self.quiet > asyncio.get_running_loop().time():
            return True
        if not follower.outlet.ready:
            return False
        follower.outlet.write(follower.feed.position())
        return True


def _let_go(follower: _Follower) -> None:
    if not follower.left.done():
        follower.left.set_result(None)

"""The pump: one round at a time, a common beat, and quiet readers told where they are."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import orjson
import pytest

from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.subscription import Subscription
from claude_loop.supervision import TaskOwner
from claude_loop.transports.fan_out import FanOut
from claude_loop.transports.feeds import BatchFeed, EventFeed
from claude_loop.transports.outbox import Frame
from claude_loop.transports.outlet import POLLING_ROUND
from claude_loop.transports.pace import Pace, PumpTiming
from claude_loop.transports.pump import Pump
from tests.support import eventually

CLOCK = SystemClock()


class Outlet:
    """A client that takes its packets when told to. Only an ``easy`` one is served together with others."""

    def __init__(self, *, easy: bool = False, on_polling: bool = False) -> None:
        self.easy = easy
        self.on_polling = on_polling
        self.frames: list[Frame] = []
        self.rounds: list[int] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = False

    @property
    def ready(self) -> bool:
        return self.easy and self.reading.is_set() and not self.gone

    def write(self, frames: list[Frame]) -> None:
        assert self.ready
        self.push(frames)

    def push(self, frames: list[Frame]) -> None:
        self.frames += frames
        self.rounds.append(len(frames))

    async def drained(self) -> None:
        if self.gone:
            raise ConnectionAbortedError
        await self.reading.wait()

    @property
    def payloads(self) -> list[tuple[str, dict]]:  # type: ignore[type-arg]
        return [tuple(orjson.loads(frame.utf8[2:])) for frame in self.frames]

    @property
    def seqs(self) -> list[int]:
        got: list[int] = []
        for name, payload in self.payloads:
            if name != "reset":
                got += [event["seq"] for event in payload["events"]] if name == "events" else [payload["seq"]]
        return got


class Bench:
    """A hub, and pumps on it."""

    def __init__(self, hub: Hub, *, easy: bool) -> None:
        self.hub = hub
        self.easy = easy
        self.owner = TaskOwner("bench")
        self.tasks: list[asyncio.Task[None]] = []

    def start(
        self,
        outlet: Outlet,
        make: Callable[[Subscription], BatchFeed | EventFeed],
        filter_: Filter = MATCH_ALL,
        fan_out: FanOut | None = None,
        timing: PumpTiming | None = None,
    ) -> BatchFeed | EventFeed:
        feed = make(Subscription(self.hub, filter_, self.hub.state.head_cursor))
        self.run(Pump(outlet, feed, fan_out or self.fan_out(timing)))
        return feed

    def run(self, pump: Pump) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(pump.run()))
        return self.tasks[-1]

    def outlet(self, *, on_polling: bool = False) -> Outlet:
        return Outlet(easy=self.easy, on_polling=on_polling)

    def fan_out(self, timing: PumpTiming | None = None) -> FanOut:
        timing = timing or PumpTiming()
        return FanOut(self.hub, Pace(timing), self.owner, timing.quiet)

    async def emit(self, count: int = 1, type_: str = "a.b", size: int = 0, prd_id: str | None = None) -> None:
        data = {"x": "x" * size}
        await self.hub.publish([Event(type_, data, id=new_event_id(CLOCK), prd_id=prd_id) for _ in range(count)])


@pytest.fixture(params=[False, True], ids=["alone", "together"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    hub = Hub(MemoryEventLog(), EventBus())
    await hub.start()
    made = Bench(hub, easy=request.param)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    await made.owner.close()
    await hub.stop()


async def test_frames_join_without_gap(bench: Bench) -> None:
    outlet = bench.outlet()
    feed = bench.start(outlet, BatchFeed)
    first = str(feed.told)
    for count in (1, 300, 7, 1000):
        await bench.emit(count)
    await eventually(lambda: len(outlet.seqs) == 1308)
    assert outlet.seqs == list(range(1, 1309))
    frames = [payload for _, payload in outlet.payloads]
    assert frames[0]["prev"] == first
    assert all(one["upto"] == two["prev"] for one, two in itertools.pairwise(frames))
    assert max(len(frame["events"]) for frame in frames) <= 256
    assert str(feed.told) == str(bench.hub.state.head_cursor)


async def test_a_frame_is_bounded_in_bytes(bench: Bench) -> None:
    outlet = bench.outlet()
    bench.start(outlet, BatchFeed)
    await bench.emit(20, size=20_000)
    await eventually(lambda: len(outlet.seqs) == 20)
    assert max(len(frame.utf8) for frame in outlet.frames) < 66_000


@pytest.mark.parametrize("feed", [BatchFeed, EventFeed])
async def test_one_round_in_flight(bench: Bench, feed: Callable[[Subscription], BatchFeed | EventFeed]) -> None:
    outlet = bench.outlet()
    bench.start(outlet, feed)
    outlet.reading.clear()
    await bench.emit(100)
    await eventually(lambda: outlet.rounds)
    for _ in range(50):
        await bench.emit(100)
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert len(outlet.rounds) == 1, "a client that does not read is given nothing more"
    outlet.reading.set()
    await eventually(lambda: len(outlet.seqs) == 5100)
    assert outlet.seqs == list(range(1, 5101))


async def test_polling_rounds_are_small(bench: Bench) -> None:
    outlet = bench.outlet(on_polling=True)
    bench.start(outlet, EventFeed)
    await bench.emit(100)
    await eventually(lambda: len(outlet.seqs) == 100)
    assert max(outlet.rounds) == POLLING_ROUND


async def test_frames_are_encoded_once_for_readers_that_agree(bench: Bench) -> None:
    fan_out = bench.fan_out()
    outlets = [bench.outlet() for _ in range(10)]
    events = [bench.outlet() for _ in range(10)]
    for outlet in outlets:
        bench.start(outlet, BatchFeed, Filter(types=("a.*",)), fan_out)
    for outlet in events:
        bench.start(outlet, EventFeed, Filter(types=("a.*",)), fan_out)
    await asyncio.sleep(0)
    for _ in range(20):
        await bench.emit(30)
        await asyncio.sleep(0.002)
    await eventually(lambda: all(len(outlet.seqs) == 600 for outlet in (*outlets, *events)))
    for group in (outlets, events):
        distinct = {id(frame) for outlet in group for frame in outlet.frames}
        assert len(distinct) == len(group[0].frames)


async def test_the_first_event_after_a_pause_goes_at_once(bench: Bench) -> None:
    outlet = bench.outlet()
    timing = PumpTiming(window=30, longest_window=30)
    bench.start(outlet, BatchFeed, timing=timing)
    await asyncio.sleep(0)
    await bench.emit()
    await eventually(lambda: outlet.seqs == [1])
    for _ in range(20):
        await bench.emit()
        await asyncio.sleep(0.005)
    assert outlet.seqs == [1], "what follows within the window is gathered"


async def test_a_reader_that_lags_does_not_wait_for_the_beat(bench: Bench) -> None:
    outlet = bench.outlet()
    timing = PumpTiming(window=30, longest_window=30)
    bench.start(outlet, BatchFeed, timing=timing)
    await asyncio.sleep(0)
    await bench.emit(5 * 256)
    await eventually(lambda: len(outlet.seqs) >= 4 * 256)


async def test_the_window_grows_with_readers() -> None:
    pace = Pace(PumpTiming(window=0.005, per_pump=0.001, longest_window=0.05))
    assert pace.window == 0.005
    pace.pumps = 20
    assert pace.window == pytest.approx(0.025)
    pace.pumps = 1000
    assert pace.window == 0.05


async def test_pumps_share_the_beat() -> None:
    pace = Pace(PumpTiming(window=0.02, per_pump=0))
    beats: list[float] = []

    async def turn() -> float:
        await pace.turn()
        return pace._last  # when it beat: a busy machine may let us run only long after

    for _ in range(3):
        (beat,) = set(await asyncio.gather(*(turn() for _ in range(20))))
        beats.append(beat)
    assert min(after - before for before, after in pairwise(beats)) >= 0.019


async def test_a_quiet_reader_is_told_where_it_is(bench: Bench) -> None:
    outlet = bench.outlet()
    timing = PumpTiming(quiet=0.2)
    feed = bench.start(outlet, BatchFeed, Filter(types=("wanted.*",)), timing=timing)
    first = str(feed.told)
    await bench.emit(3, "other.kind")
    await eventually(lambda: outlet.frames)
    ((name, payload),) = outlet.payloads
    assert name == "events"
    assert payload == {
        "sub": feed.subscription.filter.key,
        "prev": first,
        "upto": str(bench.hub.state.head_cursor),
        "events": [],
    }
    await asyncio.sleep(0.3)
    assert len(outlet.frames) == 1, "nothing moved since"


async def test_trimmed_while_lagging(bench: Bench) -> None:
    for make in (BatchFeed, EventFeed):
        outlet = bench.outlet()
        bench.start(outlet, make)
        await asyncio.sleep(0)
        outlet.reading.clear()
        await bench.emit(300)
        await eventually(lambda: outlet.rounds)  # noqa: B023
        await bench.emit(300)
        await bench.hub.log.prune(0, 50, 10_000)
        outlet.reading.set()
        head = bench.hub.state.head
        await eventually(lambda: outlet.seqs[-1:] == [head])  # noqa: B023
        names = [name for name, _ in outlet.payloads]
        assert names.count("reset") == 1
        at = names.index("reset")
        reset = outlet.payloads[at][1]
        sub = MATCH_ALL.key if make is BatchFeed else None
        assert reset == {"reason": "trimmed", "cursor": str(bench.hub.state.trimmed_cursor), "sub": sub}
        outlet.frames = outlet.frames[at + 1 :]
        assert outlet.seqs == list(range(head - 49, head + 1))


async def test_a_client_given_up_ends_the_pump(bench: Bench) -> None:
    outlet = bench.outlet()
    bench.start(outlet, BatchFeed)
    outlet.gone = True
    await bench.emit()
    await eventually(bench.tasks[0].done)
    assert bench.tasks[0].exception() is None


async def test_a_log_that_cannot_be_read_ends_the_pump_with_its_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object) -> None:
        raise OSError("no such disk")

    bench.start(bench.outlet(), BatchFeed)
    monkeypatch.setattr(bench.hub, "batch_in_memory", lambda *_arguments: None)
    monkeypatch.setattr(bench.hub, "batch_after", broken)
    await bench.emit()
    await eventually(bench.tasks[0].done)
    assert isinstance(bench.tasks[0].exception(), OSError)


async def test_a_cancelled_pump_has_told_what_it_gave_out(bench: Bench) -> None:
    """Stopped at any moment and started again where it says it is, it neither repeats nor loses an event."""
    outlet = bench.outlet(on_polling=True)
    position = bench.hub.state.head_cursor
    for step in range(60):
        timing = PumpTiming(window=0.001)
        feed = EventFeed(Subscription(bench.hub, Filter(types=("a.*",)), position))
        task = bench.run(Pump(outlet, feed, bench.fan_out(timing)))
        await bench.emit(13)
        await bench.emit(2, "other.kind")
        for _ in range(step):
            await asyncio.sleep(0)
        if step % 3 == 0:
            outlet.reading.clear()
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outlet.reading.set()
        position = feed.told
    feed = EventFeed(Subscription(bench.hub, Filter(types=("a.*",)), position))
    bench.run(Pump(outlet, feed, bench.fan_out()))
    await eventually(lambda: len(outlet.seqs) >= 13 * 60)
    assert len(set(outlet.seqs)) == len(outlet.seqs) == 13 * 60
    assert outlet.seqs == sorted(outlet.seqs)

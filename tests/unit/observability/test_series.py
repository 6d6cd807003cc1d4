"""The last hour in figures: what a sample holds, how long it is kept, and that fan-out is measured on real clients."""

from __future__ import annotations

from typing import Any

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import InvalidEvent, StorageFailed
from claude_loop.observability.series import memory_bytes
from tests.http_rig import Rig, serving
from tests.support import eventually
from tests.unit.transports.socketio_rig import Clients


class Spool:
    def statistics(self) -> dict[str, Any]:
        return {"backlog_bytes": 77, "rejected": 2}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def rig(clock: ManualClock):
    async with serving(clock=clock, spool=Spool()) as rig:
        yield rig


async def test_a_sample(rig: Rig, clock: ManualClock):
    await rig.series.sample()
    await rig.emit_many(50)
    rig.published.refused("http", InvalidEvent("no"))
    clock.advance(10)
    await rig.series.sample()
    answer = await rig.get("/api/series")
    assert answer["step_ms"] == 10_000
    assert answer["at"][1] - answer["at"][0] == 10_000
    last = {name: values[1] for name, values in answer["series"].items()}
    assert last.pop("memory_bytes") == pytest.approx(memory_bytes(), rel=0.5)
    assert last.pop("log_bytes") > 1000
    assert last == {
        "events_per_second": 5.0,
        "commit_ms_p50": None,
        "commit_ms_p99": None,
        "fanout_ms_p99": None,
        "clients": 0,
        "spool_backlog_bytes": 77,
        "rejected_total": 3,
        "log_events": 50,
    }


async def test_an_hour_is_kept_and_the_last_minutes_are_given(rig: Rig, clock: ManualClock):
    for _ in range(400):
        clock.advance(10)
        await rig.series.sample()
    assert len((await rig.get("/api/series"))["at"]) == 360
    assert len((await rig.get("/api/series?minutes=2"))["at"]) == 13
    clock.advance(3600)
    assert (await rig.get("/api/series?minutes=60"))["at"] == [clock.now_us() // 1000 - 3_600_000]


@pytest.mark.parametrize("minutes", ["0", "61", "x", ""])
async def test_bad_minutes(rig: Rig, minutes: str):
    assert (await rig.refusal(f"/api/series?minutes={minutes}"))["field"] == "minutes"


async def test_a_log_that_cannot_be_measured_costs_its_own_figures_only(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    async def failing() -> Any:
        raise StorageFailed("no")

    monkeypatch.setattr(rig.hub.log, "statistics", failing)
    await rig.series.sample()
    series = (await rig.get("/api/series"))["series"]
    assert series["log_bytes"] == [None]
    assert series["spool_backlog_bytes"] == [77]


async def test_fan_out_is_measured_for_those_who_follow(clock: ManualClock):
    async with serving(clock=clock) as rig, Clients(rig) as clients:  # type: ignore[arg-type]
        await rig.emit_many(3)
        client = await clients.join()
        await client.call("subscribe", {"from": "start"})
        await client.until("events")
        await rig.series.sample()
        await rig.emit()
        await client.until("events")
        await eventually(lambda: rig.socketio._fan_out.pace._delivered_ms)
        await rig.series.sample()
        await rig.series.sample()
        assert (await rig.get("/api/series"))["series"]["fanout_ms_p99"] == [None, 0, None]

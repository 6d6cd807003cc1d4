"""Which scenarios there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.prove.scenarios import (
    clients,
    described_api,
    disks,
    fuzzed,
    killed,
    parsed,
    processes,
    resumed,
    soaked,
    spooled,
)
from tests.prove.world import World

Play = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """``short``: whether it is in the short set."""

    name: str
    play: Play
    short: bool = True
    #: Seconds after which it has failed; the long set gets ten times as many.
    limit: float = 180.0

    @property
    def says(self) -> str:
        return (self.play.__doc__ or "").strip().splitlines()[0]


SCENARIOS = (
    Scenario("kill", killed.kill),
    Scenario("labels", killed.at_labels),
    Scenario("prune", killed.at_prune),
    Scenario("power", disks.power),
    Scenario("full", disks.full),
    Scenario("readonly", disks.readonly),
    Scenario("corrupt", disks.corrupt),
    Scenario("older", disks.older),
    Scenario("clock", disks.clock),
    Scenario("claim", spooled.claim),
    Scenario("torn", spooled.torn),
    Scenario("stop", spooled.stop),
    Scenario("slow", clients.slow),
    Scenario("crowd", clients.crowd),
    Scenario("two", processes.two),
    Scenario("race", processes.race),
    Scenario("units", processes.units),
    Scenario("soak", soaked.soak),
    Scenario("fuzz", fuzzed.fuzz, limit=720.0),
    Scenario("api", described_api.api),
    Scenario("parsers", parsed.parsers),
    Scenario("resume", resumed.resume),
    Scenario("retry", resumed.retry),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

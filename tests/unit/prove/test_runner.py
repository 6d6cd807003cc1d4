"""What `bin/prove` says at the end, and whether it has succeeded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.prove import __main__ as command
from tests.prove.catalogue import BY_NAME, Scenario
from tests.prove.outcome import Outcome
from tests.prove.runner import summary
from tests.prove.world import Skipped, World

PASSED = Outcome("kill", 1, "PASS", 1.0, {"kills": 5})


def left_out(scenario: str, seed: int, reason: str = "no strace here") -> Outcome:
    return Outcome(scenario, seed, "SKIP", 0.0, {}, reason)


def test_what_was_left_out_is_listed_by_its_reason() -> None:
    said = summary(
        [PASSED, left_out("power", 1), left_out("power", 2), left_out("readonly", 1), left_out("full", 1, "no root")]
    )
    assert said.startswith("1 PASS, 4 SKIP: ")
    assert said.partition("\n\n")[2].splitlines() == [
        "Not run:",
        "- no root",
        "    full, seed 1",
        "- no strace here",
        "    power, seed 1, 2",
        "    readonly, seed 1",
    ]


def test_nothing_is_listed_where_all_ran() -> None:
    assert "Not run" not in summary([PASSED])


@dataclass
class Played:
    """A scenario of its own in the place of the first."""

    failing: str = ""
    seeds: list[int] = field(default_factory=list)

    async def play(self, world: World) -> None:
        """Nothing, or what it was told."""
        self.seeds.append(world.seed)
        if self.failing:
            raise Skipped(self.failing)


@pytest.mark.parametrize(
    ("reason", "required", "status"),
    [("", "all", 0), ("no strace here", None, 0), ("no strace here", "all", 1)],
)
async def test_a_scenario_that_cannot_run_is_a_failure_where_all_are_required(
    reason, required, status, monkeypatch, capsys
):
    played = Played(reason)
    monkeypatch.setitem(BY_NAME, "kill", Scenario("kill", played.play))
    if required is None:
        monkeypatch.delenv("CLAUDE_LOOP_TEST_REQUIRE", raising=False)
    else:
        monkeypatch.setenv("CLAUDE_LOOP_TEST_REQUIRE", required)
    assert await command.prove(command.parse([]), ["kill"], 3, None) == status
    assert played.seeds == [3]
    assert ("Not run:\n- no strace here\n    kill, seed 3\n" in capsys.readouterr().out) is bool(reason)

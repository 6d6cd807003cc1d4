"""What agents used: summed for their run, every report once."""

from __future__ import annotations

import pytest

from claude_loop.catalogue import CATALOGUE
from claude_loop.errors import InvalidEvent
from claude_loop.progress.keys import prd_prefixes
from claude_loop.progress.usage import KEPT_TOTALS
from tests.unit.progress.scenarios import World, play


def cost(world: World, run_id: str | None = None) -> float | None:
    usage = world.run(run_id)["usage"]
    return None if usage is None else usage["cost_usd"]


def test_amounts_are_added_and_what_nobody_reported_is_not_known():
    assert play("prd.started").run()["usage"] is None
    world = play("prd.started → usage.reported cost_usd=0.1 → usage.reported cost_usd=0.2 output_tokens=40")
    assert world.run()["usage"] == {"cost_usd": 0.3, "input_tokens": None, "output_tokens": 40}
    world.play("usage.reported input_tokens=7")
    assert world.run()["usage"] == {"cost_usd": 0.3, "input_tokens": 7, "output_tokens": 40}


def test_the_totals_of_a_session_stand_in_for_its_earlier_ones():
    world = play("prd.started → usage.reported session=S1 cost_usd=1 input_tokens=100 cumulative=true")
    world.play("usage.reported session=S1 cost_usd=2.5 input_tokens=300 cumulative=true")
    assert world.run()["usage"] == {"cost_usd": 2.5, "input_tokens": 300, "output_tokens": None}
    world.play("usage.reported session=S2 cost_usd=0.5 cumulative=true")
    assert cost(world) == 3.0
    world.play(
        "usage.reported session=S1 cost_usd=1 cumulative=true → usage.reported session=S1 cost_usd=2.5 cumulative=true"
    )
    assert cost(world) == 3.0  # printed again


def test_a_session_that_is_resumed_in_a_later_run_adds_there_what_is_new():
    world = play(
        "prd.started run=R1 → usage.reported session=S1 cost_usd=3 cumulative=true → prd.completed success=true"
    )
    world.play("prd.started run=R2 → usage.reported session=S1 cost_usd=5 cumulative=true")
    assert (cost(world, "R1"), cost(world, "R2")) == (3, 2)


def test_a_session_that_ended_stays_ended():
    world = play("prd.started → session.started session=S1 agent=claude → session.ended session=S1")
    world.play("usage.reported session=S1 cost_usd=3 cumulative=true")
    assert world.session()["state"] == "ended"


def test_what_is_kept_of_sessions_is_bounded_and_goes_when_the_prd_is_forgotten():
    world = play("prd.started")
    for n in range(KEPT_TOTALS + 5):
        world.say("usage.reported", session=f"S{n}", cost_usd=1, cumulative=True)
    assert len(world.documents["kept/*/PRD-1/usage"]) == KEPT_TOTALS
    assert cost(world) == KEPT_TOTALS + 5
    assert "kept/*/PRD-1/usage".startswith(prd_prefixes(None, "PRD-1"))


def test_nothing_used_is_no_report():
    with pytest.raises(InvalidEvent, match="Neither `cost_usd`"):
        CATALOGUE["usage.reported"].complete({"model": "x"}, None)

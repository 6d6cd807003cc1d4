"""What time alone does: silence, and waits that are overdue."""

from __future__ import annotations

from claude_loop.progress.passing import next_change_at, shown, time_patches
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, World, play


def stored(world: World):
    return world.documents[f"run/*/PRD-1/{world.prd()['run_id']}"]


def test_silence_stalls_a_run_exactly_when_announced():
    world = play("prd.started")
    run, last = stored(world), world.now_ms
    due = next_change_at(run, last, STALLED_AFTER_MS)
    assert due == last + 300_000
    assert shown(run, due - 1, STALLED_AFTER_MS) is run
    assert shown(run, due, STALLED_AFTER_MS)["state"] == "stalled"
    assert next_change_at(run, due, STALLED_AFTER_MS) is None
    assert run["state"] == "running"  # nothing of it is stored


def test_silence_counts_from_when_it_happened_not_from_when_it_arrived():
    world = play("prd.started → 10 min")
    world.say("log.message", at=START_MS + 60_000, level="info", message="from the spool")
    assert stored(world)["last"]["at"] == START_MS + 60_000
    assert world.run()["state"] == "stalled"


def test_a_clock_ahead_cannot_postpone_silence():
    world = World()
    world.say("prd.started", at=START_MS + 10**9)
    assert stored(world)["last"]["at"] == world.now_ms


def test_an_old_event_that_arrives_late_does_not_make_a_live_run_silent():
    world = play("prd.started → 10 min → story.started")
    world.say("commit.created", at=START_MS, commit_hash="abc1")
    assert world.run()["state"] == "running"
    assert stored(world)["last"]["type"] == "commit.created"


def test_who_waits_is_not_stalled_and_a_limit_that_has_passed_is_overdue():
    world = play("prd.started → agent.waiting for=rate_limit reason=limit until=2026-01-26T13:00:00Z → 30 min")
    run, until = stored(world), 1_769_432_400_000
    assert next_change_at(run, world.now_ms, STALLED_AFTER_MS) == until
    assert world.run()["waiting"]["overdue"] is False
    assert time_patches("k", run, world.now_ms, until - 1, STALLED_AFTER_MS) == []
    patches = time_patches("k", run, world.now_ms, until, STALLED_AFTER_MS)
    assert sorted(patch["path"][1] for patch in patches) == ["waiting", "waits"]
    assert all((patch["seq"], patch["at"]) == (2, until) for patch in patches)
    later = shown(run, until + 10**8, STALLED_AFTER_MS)
    assert (later["state"], later["waiting"]["overdue"], later["waits"][0]["overdue"]) == ("waiting", True, True)
    assert next_change_at(run, until, STALLED_AFTER_MS) is None


def test_paused_finished_and_vanished_runs_do_not_change():
    for scenario in ("control.paused", "prd.completed success=true", "system.run_vanished pid=1"):
        run = stored(play(f"prd.started → {scenario}"))
        assert next_change_at(run, 0, STALLED_AFTER_MS) is None
        assert shown(run, 10**14, STALLED_AFTER_MS) is run

"""What time alone does: silence, and waits that are overdue."""

from __future__ import annotations

import pytest

from claude_loop.progress.passing import (
    GONE_AFTER_MS,
    LEFT_ALONE_MS,
    next_change_at,
    next_change_by_key,
    shown,
    shown_session,
    stalls_at,
)
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
    assert shown(run, until - 1, STALLED_AFTER_MS) is run
    then = shown(run, until, STALLED_AFTER_MS)
    assert {field for field, value in then.items() if value != run[field]} == {"waiting", "waits"}
    later = shown(run, until + 10**8, STALLED_AFTER_MS)
    assert (later["state"], later["waiting"]["overdue"], later["waits"][0]["overdue"]) == ("waiting", True, True)
    assert next_change_at(run, until, STALLED_AFTER_MS) is None


def test_an_agent_that_a_limit_holds_is_not_gone_before_it_ends_and_then_the_wait_is_overdue():
    world = play("agent.waiting prd=PRD-2 session=S1 for=rate_limit reason=weekly until=2026-01-29T12:00:00Z")
    session, key, until = world.documents["session/*/PRD-2/S1"], "session/*/PRD-2/S1", 1_769_688_000_000
    assert next_change_by_key(key, session, START_MS, STALLED_AFTER_MS) == until
    assert shown_session(session, until - 1) is session
    assert shown_session(session, until)["ended_at"] is not None  # nothing was heard of it for three days
    world = play("agent.waiting prd=PRD-2 session=S1 for=rate_limit reason=limit until=2026-01-26T13:00:00Z")
    session, until = world.documents[key], 1_769_432_400_000
    assert next_change_by_key(key, session, START_MS, STALLED_AFTER_MS) == until
    assert shown_session(session, until - 1) is session
    assert shown_session(session, until)["waiting"]["overdue"]
    assert session["waiting"]["overdue"] is False
    assert next_change_by_key(key, session, until, STALLED_AFTER_MS) == session["last"]["at"] + LEFT_ALONE_MS


def test_paused_finished_and_vanished_runs_do_not_change():
    for scenario in ("control.paused", "prd.completed success=true", "system.run_vanished pid=1"):
        run = stored(play(f"prd.started → {scenario}"))
        assert next_change_at(run, 0, STALLED_AFTER_MS) is None
        assert shown(run, 10**14, STALLED_AFTER_MS) is run


@pytest.mark.parametrize(
    ("last", "after_ms"),
    [
        ("tool.started session=S1 tool=Bash", GONE_AFTER_MS),
        ("agent.retrying session=S1 error=overloaded", GONE_AFTER_MS),
        ("agent.idle session=S1", LEFT_ALONE_MS),
        ('agent.waiting session=S1 for=human reason="permission Bash ls"', LEFT_ALONE_MS),
    ],
)
def test_an_agent_that_was_killed_is_gone_after_long_silence(last: str, after_ms: int):
    world = play(f"prd.started → session.started session=S1 agent=claude → {last}")
    key, run = "session/*/PRD-1/S1", stored(world)
    session, due = world.documents[key], world.now_ms + after_ms
    assert next_change_by_key(key, session, world.now_ms, STALLED_AFTER_MS) == due
    assert shown_session(session, due - 1) is session
    assert len(shown(run, due - 1, STALLED_AFTER_MS)["agents"]) == 1
    gone = shown_session(session, due)
    assert (gone["state"], gone["ended_at"], gone["doing"], gone["open_calls"]) == ("ended", world.now_ms, None, [])
    assert shown(run, due, STALLED_AFTER_MS)["agents"] == []
    assert next_change_by_key(key, session, due, STALLED_AFTER_MS) is None
    world.now_ms = due
    assert world.play("tool.completed session=S1 tool=Bash").session()["state"] == "running"
    assert len(world.run()["agents"]) == 1


def test_a_run_is_not_stalled_while_an_agent_is_in_a_tool_call():
    world = play("prd.started → session.started session=S1 agent=claude → prompt.submitted session=S1 prompt=go")
    world.play('tool.started session=S1 tool=Bash call_id=C1 summary="npm test" → 12 min')
    (agent,) = world.run()["agents"]
    assert agent["call"] == {"tool": "Bash", "summary": "npm test", "since": world.now_ms - 12 * 60_000}
    run, last = stored(world), world.now_ms - 12 * 60_000
    assert world.run()["state"] == "running"
    assert stalls_at(run, STALLED_AFTER_MS) == next_change_at(run, last, STALLED_AFTER_MS) == last + GONE_AFTER_MS
    assert shown(run, last + GONE_AFTER_MS, STALLED_AFTER_MS)["state"] == "stalled"
    world.play("tool.completed session=S1 tool=Bash call_id=C1 → 5 min")
    assert world.run()["agents"][0]["call"] is None
    assert world.run()["state"] == "stalled"


def test_who_is_in_a_call_and_was_asked_for_a_permission_is_not_at_work_in_it():
    world = play("prd.started → session.started session=S1 agent=claude → tool.started session=S1 tool=Bash call_id=C1")
    world.play('agent.waiting session=S1 for=human reason="permission Bash ls"')
    assert (world.run()["state"], world.run()["agents"][0]["call"]) == ("waiting", None)


def test_silence_of_one_agent_leaves_the_run_and_the_others_alone():
    world = play("prd.started → session.started session=S1 agent=claude → prompt.submitted session=S1 prompt=go")
    world.play("59 min → session.started session=S2 agent=claude → 2 min")
    assert world.run()["state"] == "running"
    assert [agent["session_id"] for agent in world.run()["agents"]] == ["S2"]

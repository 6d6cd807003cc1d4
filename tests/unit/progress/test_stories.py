"""Attempts, proof and times of stories."""

from __future__ import annotations

from typing import Any

import pytest

from claude_loop.events import Event
from tests.unit.progress.scenarios import World, play

PASSED = "test.run passed=12 failed=0"
COMMIT = "commit.created commit_hash=abc123d subject=Cart"
DONE = "story.completed success=true"


@pytest.mark.parametrize(
    "order",
    [
        f"{PASSED} → {COMMIT} → {DONE}",
        f"{COMMIT} → {PASSED} → {DONE}",
        f"{DONE} → {COMMIT} → {PASSED}",
        f"test.run passed=1 failed=1 → {PASSED} → {COMMIT} → {DONE}",
    ],
)
def test_proof_may_come_in_any_order_after_the_start(order: str):
    assert play(f"story.started → {order}").story()["state"] == "done·verified"


def test_a_failing_test_run_after_the_completion_takes_verified_away():
    world = play(f"story.started → {PASSED} → {COMMIT} → {DONE} → test.run passed=11 failed=1")
    assert world.story()["state"] == "done·claimed"
    assert world.story()["why"] == ["last test run had 1 failing"]
    assert world.run()["counts"] == {"todo": 0, "running": 0, "failing": 0, "blocked": 0, "claimed": 1, "verified": 0}
    world.play(PASSED)
    assert world.story()["state"] == "done·verified"
    assert world.run()["claims"] == []


@pytest.mark.parametrize(
    ("type_", "data", "why"),
    [
        ("commit.created", {"commit_hash": "HEAD", "_invalid": ["no hash"]}, "no commit"),
        ("test.run", {"passed": 3, "failed": 0, "failures": [{"name": "a"}]}, "last test run had 1 failing"),
    ],
)
def test_what_the_spool_kept_though_it_contradicts_itself_proves_nothing(type_: str, data: dict[str, Any], why: str):
    world = play(f"story.started → {PASSED if type_ != 'test.run' else COMMIT} → {DONE}")
    world.publish(Event(type_, data, prd_id="PRD-1", story_id="US-001", at=world.now_ms))
    assert world.story()["state"] == "done·claimed"
    assert world.story()["why"] == [why]


def test_a_new_start_begins_without_proof():
    world = play(f"story.started → {PASSED} → {COMMIT} → {DONE} → story.started")
    story = world.story()
    assert (story["state"], story["attempt"], story["finished_at"]) == ("running", 2, None)
    assert (story["tests"], story["commits"], story["last_test"], story["last_commit"]) == (1, 1, None, None)
    world.play(DONE)
    assert world.story()["why"] == ["no test run since attempt 2", "no commit since attempt 2"]


def test_attempts_keep_their_times_and_outcomes():
    world = play("story.started → 5 min → story.completed success=false → story.started → story.started → 60 s")
    world.play(DONE)
    attempts = world.story()["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "restarted", "completed"]
    assert [attempt["worked_ms"] for attempt in attempts] == [301_000, 1_000, 61_000]
    assert world.story()["worked_ms"] == 363_000
    assert world.story()["finished_at"] == world.now_ms


def test_waits_are_not_working_time():
    world = play(f"story.started → agent.waiting for=human reason=x → 60 min → agent.resumed → {DONE}")
    assert world.story()["worked_ms"] == 2_000
    assert world.run()["waited_ms"] == 3_601_000


def test_a_story_never_started_can_be_verified():
    world = play(f"{PASSED} → {COMMIT} → {DONE}")
    assert (world.story()["state"], world.story()["attempt"]) == ("done·verified", 0)


def test_a_failed_attempt_stays_failing_until_it_is_started_or_completed():
    world = play(f"story.started → story.completed success=false → {PASSED}")
    assert (world.story()["state"], world.story()["why"]) == ("failing", ["attempt 1 failed"])
    assert play(f"story.started → story.completed success=false → {DONE}").story()["state"] == "done·claimed"


def test_the_same_completion_twice_changes_nothing():
    world = play(f"story.started → {DONE}")
    finished_at = world.story()["finished_at"]
    world.play(f"5 min → {DONE}")
    assert world.story()["finished_at"] == finished_at
    assert len(world.run()["story_times_ms"]) == 1


def test_a_blocked_story_is_in_nobodys_hands_until_it_is_started_again():
    world = play('story.started → story.blocked reason="needs US-002"')
    assert (world.story()["state"], world.story()["why"]) == ("blocked", ["needs US-002"])
    assert world.run()["current"] is None
    world.play(f"{PASSED} → log.message story=US-001 level=info message=x")
    assert world.story()["state"] == "blocked"
    world.play("story.started")
    assert world.story()["state"] == "running"


def test_the_current_story_is_the_last_started_and_gives_way():
    world = play("story.started → story.started story=US-002 title=Coupons")
    assert world.run()["current"] == {"story_id": "US-002", "title": "Coupons", "attempt": 1, "since": world.now_ms}
    world.play("story.completed story=US-002 success=true")
    assert world.run()["current"]["story_id"] == "US-001"
    world.play(DONE)
    assert (world.run()["current"], world.run()["running"]) == (None, [])


def test_a_test_run_names_the_failing_ones():
    names = [{"name": f"test_{n}"} for n in range(12)]
    world = World()
    world.say("test.run", passed=3, failed=14, failures=names)
    test = world.run()["last_test"]
    assert test["failing"] == [f"test_{n}" for n in range(10)]
    assert test["failing_more"] == 4
    assert (test["passed"], test["failed"], test["total"], test["story_id"]) == (3, 14, 17, "US-001")
    assert world.story()["test_runs"] == [test]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"passed": "many", "failed": 0}, "last test run had no readable result"),
        ({"passed": 3}, "last test run had no readable result"),
        ({"passed": 1.5, "failed": None}, "last test run had no readable result"),
        ({"passed": True, "failed": 0}, "last test run had no readable result"),
    ],
)
def test_a_test_run_that_cannot_be_read_proves_nothing(data: dict[str, object], why: str):
    world = play(f"story.started → {COMMIT}")
    world.publish(Event("test.run", data, prd_id="PRD-1", story_id="US-001", at=world.now_ms))
    world.play(DONE)
    assert (world.story()["state"], world.story()["why"]) == ("done·claimed", [why])


def test_success_that_cannot_be_read_is_not_made_up():
    world = play(f"story.started → {PASSED} → {COMMIT}")
    world.publish(Event("story.completed", {"success": "perhaps"}, prd_id="PRD-1", story_id="US-001", at=world.now_ms))
    assert world.story()["why"] == ["whether it succeeded was not said"]
    world.publish(Event("prd.completed", {}, prd_id="PRD-1", at=world.now_ms))
    assert world.run()["state"] == "done·claimed"
    assert "whether it succeeded was not said" in world.run()["why"]


def test_the_story_of_a_marked_event_is_found_in_its_data():
    world = World()
    world.publish(Event("test.run", {"story_id": "US-001", "_invalid": ["…"]}, prd_id="PRD-1", at=world.now_ms))
    assert world.story()["tests"] == 1


def see(world: World, source: str, type_: str, *, at: int | None = None, **data: object) -> None:
    """An observer tells of it: it knows no story."""
    world.now_ms += 1000
    moment = world.now_ms if at is None else at
    world.publish(Event(type_, data, project=None, prd_id="PRD-1", source=source, at=moment))


def test_a_test_run_of_no_known_story_is_of_the_one_that_the_next_commit_names():
    world = World()
    see(world, "prd.json", "plan.updated", stories=[{"story_id": "US-001"}, {"story_id": "US-002"}])
    for story in ("US-001", "US-002"):
        see(world, "claude", "test.run", passed=2, failed=0)
        see(world, "claude", "commit.created", commit_hash="ab12" + story[-1], mentions=[story])
        world.say("story.completed", source="prd.json", story=story, success=True)
        assert (world.story(story)["state"], world.story(story)["tests"]) == ("done·verified", 1)
    see(world, "git", "commit.created", commit_hash="ab129", mentions=["US-001"])
    assert world.story("US-001")["tests"] == 1


def test_a_commit_takes_up_no_test_run_that_came_after_it():
    world = World()
    see(world, "prd.json", "plan.updated", stories=[{"story_id": "US-001"}])
    see(world, "output", "test.run", passed=2, failed=0)
    see(world, "git", "commit.created", at=world.now_ms - 5000, commit_hash="ab12", mentions=["US-001"])
    assert (world.story("US-001")["tests"], world.story("US-001")["commits"]) == (0, 1)


def test_a_commit_without_a_hash_is_none():
    world = World()
    world.publish(Event("commit.created", {"story_id": "US-001"}, prd_id="PRD-1", at=world.now_ms))
    assert (world.story()["commits"], world.run()["commits"], world.run()["last_commit"]) == (0, 0, None)


def test_errors_and_progress_belong_to_their_story():
    world = play(
        'error.occurred story=US-001 error=boom → progress.updated story=US-001 current=1 total=4 message="a b"'
    )
    story, run = world.story(), world.run()
    assert (story["errors"], story["last_error"]["error"], run["errors"], run["last_error"]) == (
        1,
        "boom",
        1,
        story["last_error"],
    )
    assert story["progress"] == {"at": world.now_ms, "current": 1, "total": 4, "message": "a b"}
    assert run["progress"] is None
    assert play("progress.updated current=1 total=4").run()["progress"]["current"] == 1


def test_a_start_that_an_observer_tells_after_the_end_leaves_no_story_at_work():
    world = play("run.started → 10 min → run.completed success=true")
    ended_at = world.now_ms
    world.say("story.started", source="prd.json", story="US-001", at=ended_at - 300_000)
    assert (world.run()["running"], world.run()["current"]) == ([], None)
    assert world.story()["why"] == ["the run ended before attempt 1 was completed"]
    (attempt,) = world.story()["attempts"]
    assert (attempt["finished_at"], attempt["worked_ms"]) == (ended_at, 300_000)
    world.say("story.completed", source="prd.json", story="US-001", success=True, at=ended_at - 100_000)
    (attempt,) = world.story()["attempts"]
    assert (attempt["outcome"], attempt["worked_ms"], world.story()["worked_ms"]) == ("completed", 200_000, 200_000)
    assert world.story()["state"] == "done·claimed"
    assert world.run()["finished_at"] == ended_at

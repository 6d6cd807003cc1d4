"""How runs begin, wait, pause, vanish and end, and which run an event belongs to."""

from __future__ import annotations

import pytest

from claude_loop.progress.reading import LONGEST_NAME
from tests.unit.progress.scenarios import START_MS, World, play

TWO = '[{"story_id":"US-001"},{"story_id":"US-002"}]'
PROVED = "test.run passed=1 failed=0 → commit.created commit_hash=abc1 → story.completed success=true"


def test_prd_started_opens_a_run_named_after_its_event():
    world = play("prd.started title=Checkout total_stories=5 → story.started")
    run = world.run()
    assert (run["run_id"], run["number"], run["opened_by"]) == ("event-1", 1, "prd.started")
    assert [event.run_id for event in world.events] == ["event-1", "event-1"]
    assert world.prd() == {
        "project": None,
        "prd_id": "PRD-1",
        "title": "Checkout",
        "run_id": "event-1",
        "runs": 1,
        "created_at": START_MS + 1000,
        "archived_at": None,
    }
    assert run["counts"]["todo"] == 4


def test_the_next_start_is_the_next_run_and_supersedes_an_unfinished_one():
    world = play("prd.started → story.started → prd.started → story.started")
    assert [event.run_id for event in world.events] == ["event-1", "event-1", "event-3", "event-3"]
    assert (world.prd()["runs"], world.run()["number"]) == (2, 2)
    assert world.run("event-1")["superseded_by"] == "event-3"
    assert world.story()["attempt"] == world.story(run_id="event-1")["attempt"] == 1
    assert play("prd.started → prd.completed success=true → prd.started").run("event-1")["superseded_by"] is None


def test_the_first_event_of_a_prd_opens_a_run_whatever_it_is():
    world = play("log.message level=info message=hello → story.started")
    assert (world.run()["opened_by"], world.events[1].run_id) == ("log.message", "event-1")


@pytest.mark.parametrize("about", ["system.run_vanished pid=1", "control.paused", "alert.sent"])
def test_what_is_said_about_a_prd_opens_nothing(about: str):
    world = play(about)
    assert world.documents == {}
    assert world.events[0].run_id is None
    world = play(f"prd.started → {about}")
    assert world.events[1].run_id == "event-1"
    assert world.run()["last"]["seq"] == 1
    assert play(f"prd.started → {about} run=R9").prd()["runs"] == 1


def test_a_publishers_run_id_is_honoured():
    world = play(
        "run.started run=R1 → prd.started run=R1 → story.started run=R1 → story.started run=R2 → story.started"
    )
    assert [event.run_id for event in world.events] == ["R1", "R1", "R1", "R2", "R2"]
    assert (world.prd()["runs"], world.run("R1")["begun_by"]) == (2, ["run.started", "prd.started"])


@pytest.mark.parametrize("halves", ["run.started → prd.started", "prd.started → run.started"])
def test_the_two_halves_of_a_beginning_open_one_run(halves: str):
    world = play(halves)
    assert world.prd()["runs"] == 1
    world.play("prd.started")
    assert world.prd()["runs"] == 2


def test_a_finished_run_is_not_joined():
    assert play("run.started → run.completed success=true → prd.started").prd()["runs"] == 2


def test_the_same_prd_id_in_two_projects_is_two_prds():
    world = play("prd.started project=shop → prd.started project=blog → prd.started")
    assert [world.prd(project=name)["runs"] for name in ("shop", "blog", None)] == [1, 1, 1]


def test_events_without_a_prd_only_show_that_their_project_lives():
    world = World()
    world.say("log.message", prd=None, project="shop", level="info", message="x")
    world.say("log.message", prd=None, level="info", message="x")
    world.say("system.started", prd=None, project="shop")
    assert world.documents == {
        "project/shop": {"project": "shop", "last": {"seq": 1, "at": START_MS + 1000, "type": "log.message"}}
    }


def test_late_news_of_a_finished_run_count_but_do_not_reopen_it():
    world = play(
        "prd.started total_stories=1 → story.started → story.completed success=true → prd.completed success=true"
    )
    assert world.run()["why"] == ["US-001: no test run, no commit"]
    finished_at = world.run()["finished_at"]
    world.play("test.run passed=1 failed=0 → commit.created commit_hash=abc1 → agent.waiting for=human reason=idle")
    assert (world.run()["state"], world.run()["finished_at"]) == ("done·verified", finished_at)
    world.play("test.run passed=1 failed=3")
    assert world.run()["why"] == ["US-001: last test run had 3 failing"]


@pytest.mark.parametrize("again", ["story.started", "iteration.started iteration=2", "prd.started run=event-1"])
def test_work_that_begins_after_the_end_reopens_the_run(again: str):
    world = play(f"prd.started → prd.completed success=false → {again}")
    assert (world.run()["state"], world.run()["finished_at"], world.prd()["runs"]) == ("running", None, 1)
    world.play("prd.completed success=true")
    assert world.run()["state"] == "done·claimed"


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("prd.completed success=false", ["it was reported as failed"]),
        ("run.completed success=false exit_code=2", ["the command ended with status 2"]),
        ("run.completed success=false exit_code=130", ["the command ended with status 130 (Ctrl-C)"]),
        ("run.completed success=false exit_code=143", ["the command ended with status 143 (SIGTERM)"]),
        ("prd.completed success=true → run.completed success=false exit_code=1", ["the command ended with status 1"]),
        ("prd.completed success=false → run.completed success=true exit_code=0", ["it was reported as failed"]),
    ],
)
def test_a_run_fails_if_either_end_says_so(end: str, why: list[str]):
    run = play(f"prd.started → {end}").run()
    assert (run["state"], run["why"]) == ("failed", why)


@pytest.mark.parametrize(
    ("played", "run_why", "story_why"),
    [
        (
            "error.occurred story=US-001 error=boom → prd.completed success=false",
            ["last error: boom"],
            ["last error: boom"],
        ),
        ("error.occurred story=US-001 error=boom → test.run passed=0 failed=1 → prd.completed success=false", [], []),
        (
            "test.run passed=0 failed=1 → error.occurred story=US-001 error=boom → prd.completed success=false",
            ["last error: boom"],
            ["last error: boom"],
        ),
        (
            "error.occurred story=US-001 error=boom → story.started → prd.completed success=false",
            ["last error: boom"],
            [],
        ),
        ("error.occurred story=US-001 error=boom → run.completed success=true", [], ["last error: boom"]),
        (
            "prd.completed success=false → error.occurred story=US-001 error=late",
            ["last error: late"],
            ["last error: late"],
        ),
    ],
)
def test_what_failed_says_which_error_came_last(played: str, run_why: list[str], story_why: list[str]):
    world = play(f"prd.started → story.started → {played}")
    assert [why for why in world.run()["why"] if "error" in why] == run_why
    assert ("it was reported as failed" in world.run()["why"]) == (not run_why and "success=false" in played)
    assert [why for why in world.story()["why"] if "error" in why] == story_why


def test_more_stories_than_announced_are_no_obstacle():
    world = play(f"prd.started total_stories=1 → story.started → {PROVED} → story.started story=US-002")
    world.play("test.run story=US-002 passed=1 failed=0 → commit.created story=US-002 commit_hash=abd1")
    world.play("story.completed story=US-002 success=true → prd.completed success=true")
    assert world.run()["state"] == "done·verified"


def test_many_claims_are_counted_and_the_latest_named():
    world = play("prd.started total_stories=8")
    for n in range(8):
        world.play(f"story.completed story=US-{n} success=true")
    world.play("prd.completed success=true")
    why = world.run()["why"]
    assert [words.split(":")[0] for words in why] == [
        "US-3, US-4, US-5, US-6, US-7",
        "3 stories more without proof",
    ]


def test_a_wait_says_for_whom_since_and_until():
    world = play(
        'prd.started → agent.waiting for=rate_limit reason="usage limit" until=2026-01-26T13:00:00Z story=US-001'
    )
    assert world.run()["waiting"] == {
        "for": "rate_limit",
        "reason": "usage limit",
        "since": world.now_ms,
        "until": 1_769_432_400_000,
        "overdue": False,
        "story_id": "US-001",
        "session_id": None,
        "agent_id": None,
    }


@pytest.mark.parametrize(
    ("then", "state"),
    [
        ("agent.resumed", "running"),
        ("test.run passed=1 failed=0", "running"),
        ("iteration.started iteration=2", "running"),
        ("progress.updated current=1 total=2", "running"),
        ("tool.started tool=Bash", "running"),
        ("log.message level=info message=still", "waiting"),
        ("error.occurred error=limit", "waiting"),
        ("my.heartbeat", "waiting"),
        ("system.run_owned pid=1", "waiting"),
    ],
)
def test_what_ends_a_wait(then: str, state: str):
    world = play(f"prd.started → agent.waiting for=human reason=x → {then}")
    assert world.run()["state"] == state
    assert len(world.run()["past_waits"]) == (state == "running")


def test_each_session_waits_for_itself_and_a_person_comes_first():
    world = play("prd.started → agent.waiting for=rate_limit reason=limit session=A")
    world.play("agent.waiting for=human reason=permission session=B → tool.started tool=Bash session=C")
    assert [wait["session_id"] for wait in world.run()["waits"]] == ["A", "B"]
    assert world.run()["waiting"]["session_id"] == "B"
    world.play("tool.started tool=Bash session=B")
    assert (world.run()["state"], world.run()["waiting"]["session_id"]) == ("waiting", "A")
    world.play("story.started")
    assert (world.run()["state"], world.run()["waits"]) == ("running", [])


def test_a_wait_said_again_goes_on_since_the_first_time():
    world = play("prd.started → agent.waiting for=human reason=x → 5 min → agent.waiting for=human reason=x")
    assert world.run()["waiting"]["since"] == START_MS + 2000
    world.play("agent.waiting for=human reason=y")
    assert world.run()["waiting"]["since"] == world.now_ms


LIMIT = "agent.waiting for=rate_limit"
IN_OUTPUT = f'{LIMIT} reason="limit|1769432400" until=2026-01-26T13:00:00Z source=output'


@pytest.mark.parametrize(
    "reports",
    [
        f"{LIMIT} reason=limit session=A source=claude → {IN_OUTPUT}",
        f"{IN_OUTPUT} → {LIMIT} reason=limit session=A source=claude",
        f"{LIMIT} reason=limit session=A source=claude → session.ended session=A source=claude → {IN_OUTPUT}",
        f"{IN_OUTPUT} → {LIMIT} reason=limit session=A source=claude → session.ended session=A source=claude",
    ],
)
def test_a_limit_that_hook_and_output_tell_of_is_one_wait_and_outlives_the_session(reports: str):
    world = play(f"prd.started → {reports}")
    (wait,) = world.run()["waits"]
    assert (wait["since"], wait["until"]) == (START_MS + 2000, 1_769_432_400_000)
    world.play("iteration.started iteration=2 source=output")
    assert (world.run()["state"], len(world.run()["past_waits"])) == ("running", 1)


def test_another_limit_and_another_session_wait_for_themselves():
    world = play(f"prd.started → {LIMIT} reason=limit session=A → {LIMIT} reason=limit session=B")
    assert len(world.run()["waits"]) == 2
    world = play(f"prd.started → {IN_OUTPUT} → 5 min → {LIMIT} reason=weekly until=2026-01-30T13:00:00Z source=output")
    assert world.run()["waiting"]["since"] == world.now_ms


def test_a_session_that_ends_asks_nobody_any_more():
    world = play("prd.started → agent.waiting for=human reason=permission session=A → session.ended session=B")
    assert world.run()["state"] == "waiting"
    world.play("session.ended session=A")
    assert (world.run()["state"], len(world.run()["past_waits"])) == ("running", 1)


@pytest.mark.parametrize(
    ("late", "state"),
    [
        ("commit.created commit_hash=abc1234 source=git", "waiting"),
        ("story.completed success=true source=prd.json", "waiting"),
        ("test.run passed=1 failed=0 source=output", "waiting"),
        ("iteration.started iteration=2 source=output", "running"),
        ("tool.started tool=Bash session=A source=claude", "running"),
    ],
)
def test_what_observers_see_late_ends_no_wait_of_a_session(late: str, state: str):
    world = play(f"prd.started → story.started → agent.waiting for=human reason=x session=A → {late}")
    assert world.run()["state"] == state


def test_a_banner_that_is_read_after_the_wait_began_but_was_printed_before_does_not_end_it():
    world = play("prd.started → agent.waiting for=human reason=x session=A source=claude")
    world.say("iteration.started", iteration=1, source="output", at=world.now_ms - 500)
    assert world.run()["state"] == "waiting"


def test_a_wait_that_an_observer_tells_of_is_of_the_story_at_work():
    world = play("prd.started → story.started → agent.waiting for=human reason=x session=A source=claude")
    assert world.run()["waiting"]["story_id"] == "US-001"


def test_an_unknown_kind_of_wait_and_an_unreadable_end_are_kept_as_far_as_they_go():
    world = play("prd.started")
    event = world.events[0]
    world.publish(type(event)("agent.waiting", {"for": ["?"], "until": "soon"}, prd_id="PRD-1", at=world.now_ms))
    wait = world.run()["waiting"]
    assert (wait["for"], wait["reason"], wait["until"]) == ("other", "no reason given", None)


def test_a_pause_ends_with_a_word_not_with_work():
    world = play("prd.started → control.paused reason=lunch → story.started")
    assert (world.run()["state"], world.run()["paused"]["reason"]) == ("paused", "lunch")
    assert world.play("control.resumed").run()["state"] == "running"


OWNED = 'prd.started owner={"pid":42,"start_ticks":7,"boot_id":"b"} → system.run_owned pid=42'


def test_the_owner_is_kept():
    run = play(OWNED).run()
    assert run["owner"] == {"pid": 42, "start_ticks": 7, "boot_id": "b", "pid_namespace": None}
    assert run["owned"] is True
    assert (
        play(f'{OWNED} → prd.started run=event-1 owner={{"pid":42,"start_ticks":7,"boot_id":"b"}}').run()["owned"]
        is True
    )
    assert play(f'{OWNED} → prd.started run=event-1 owner={{"pid":43}}').run()["owned"] is False


def test_any_sign_of_life_brings_a_vanished_run_back():
    world = play(f"{OWNED} → system.run_vanished pid=42")
    assert (world.run()["state"], world.run()["vanished_at"]) == ("vanished", world.now_ms)
    assert world.play("log.message level=info message=x").run()["state"] == "running"


def test_a_finished_run_does_not_vanish_and_another_process_does_not_count():
    finished = play(f"{OWNED} → prd.completed success=false → system.run_vanished pid=42").run()
    assert (finished["state"], finished["vanished_at"]) == ("failed", None)
    assert play(f"{OWNED} → system.run_vanished pid=43").run()["state"] == "running"


def test_the_estimate_is_a_range_once_three_stories_are_done():
    world = play("prd.started total_stories=6")
    for minutes in (10, 30, 20):
        assert world.run()["estimate"] is None
        world.play(
            f"story.started story=US-{minutes} → {minutes} min → story.completed story=US-{minutes} success=true"
        )
    done_at, second = world.now_ms, 1000
    assert world.run()["estimate"] == {
        "from_at": done_at + 3 * (600_000 + second),
        "to_at": done_at + 3 * (1_800_000 + second),
        "stories": 3,
    }
    world.play("agent.waiting for=human reason=x → 59 s → agent.resumed")
    assert world.run()["estimate"]["from_at"] == done_at + 3 * 601_000 + 60_000
    assert world.play("prd.completed success=true").run()["estimate"] is None


def test_the_sparkline_widens_its_buckets():
    world = play("prd.started → log.message level=info message=x → 23 min → log.message level=info message=x")
    assert (world.run()["activity"], world.run()["activity_width_ms"]) == ([2] + [0] * 22 + [1], 60_000)
    world.play("59 s → log.message level=info message=x")
    assert (world.run()["activity"], world.run()["activity_width_ms"]) == ([2] + [0] * 10 + [1, 1], 120_000)
    world.play("60 min → log.message level=info message=x")
    run = world.run()
    assert (sum(run["activity"]), len(run["activity"]), run["activity_width_ms"]) == (5, 22, 240_000)


def test_iterations():
    world = play("prd.started → iteration.started iteration=7 max_iterations=20 → iteration.completed iteration=7")
    assert (world.run()["iteration"], world.run()["max_iterations"]) == (7, 20)


@pytest.mark.parametrize(
    ("story", "lacks"),
    [
        ("test.run passed=1 failed=2", ["1 story failing", "1 story not started"]),
        ('story.blocked reason="no key"', ["1 story blocked", "1 story not started"]),
        (PROVED, ["1 story not started"]),
    ],
)
@pytest.mark.parametrize("promise", ["COMPLETE", "All tasks done", "completed", "ALL_DONE", "task-complete!"])
def test_a_run_that_promised_all_and_leaves_stories_undone_has_failed(story, lacks, promise):
    world = play(
        f'run.started → plan.updated stories={TWO} → story.started → {story} → log.message level=info message=m promise="{promise}"'
    )
    assert world.run()["state"] == "running"
    world.play("run.completed success=true exit_code=0")
    assert (world.run()["state"], world.run()["why"]) == ("failed", [f"promised {promise}", *lacks])


@pytest.mark.parametrize(
    "promise",
    ["INCOMPLETE", "not done", "BLOCKED", "STORY-1", "US-001 DONE", "ITERATION COMPLETE", "cannot be completed"],
)
def test_what_is_promised_and_is_not_that_all_is_done_changes_nothing(promise):
    world = play(
        f'run.started → story.started → test.run passed=0 failed=1 → log.message level=info message=m promise="{promise}"'
    )
    world.play("run.completed success=true")
    assert world.run()["state"] == "done·claimed"


def test_a_promise_of_what_only_lacks_proof_is_a_claim():
    world = play(
        "run.started → story.started → story.completed success=true → log.message level=info message=m promise=COMPLETE"
    )
    world.play("run.completed success=true")
    assert world.run()["state"] == "done·claimed"
    # What is found in the plan a moment after the end counts.
    world.play(f"plan.updated stories={TWO}")
    assert world.run()["state"] == "failed"
    world.play("story.completed story=US-002 success=true source=prd.json")
    assert world.run()["state"] == "done·claimed"


def test_a_promise_does_not_judge_the_work_that_was_begun_after_the_end():
    world = play(
        "run.started → story.started → story.completed success=true → log.message level=info message=m promise=COMPLETE"
    )
    world.play("prd.completed success=true → story.started story=US-002")
    assert (world.run()["promise"], world.run()["promised_at"]) == (None, None)
    world.play("prd.completed success=true")
    assert world.run()["state"] == "done·claimed"


def test_what_an_agent_promised_last_is_kept_with_its_time_and_finishes_nothing():
    world = play("prd.started → log.message level=info message=hello")
    assert (world.run()["promise"], world.run()["promised_at"]) == (None, None)
    world.play("log.message level=info message=m promise=COMPLETE → log.message level=info message=hello")
    assert world.run()["promise"] == "COMPLETE"
    assert world.run()["promised_at"] == world.run()["started_at"] + 2000
    assert world.run()["state"] == "running"
    world.play(f"log.message level=info message=m promise={'w' * 300}")
    assert len(world.run()["promise"]) == LONGEST_NAME  # a card shows it

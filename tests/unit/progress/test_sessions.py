"""What an agent's session is at a moment, and what its run shows of it."""

from __future__ import annotations

import pytest

from claude_loop.clock import rfc3339
from claude_loop.events import Event
from claude_loop.progress.draft import KEPT_SESSIONS
from claude_loop.progress.keys import session_key
from claude_loop.progress.passing import GONE_AFTER_MS
from claude_loop.progress.patches import PatchMaker
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.session_rules import KEPT_CALLS
from claude_loop.progress.sessions import KEPT_AGENTS
from tests.unit.progress.scenarios import STALLED_AFTER_MS, Documents, World, play

BEGUN = "run.started → session.started session=S1 agent=claude model=sonnet → prompt.submitted session=S1 prompt=go"


def test_a_session_nests_under_its_run_and_story():
    world = play(f"{BEGUN} → tool.started session=S1 story=US-002 tool=Bash summary=pytest call_id=c1")
    session = world.session()
    assert (session["agent"], session["model"], session["prompts"], session["last_prompt"]) == (
        "claude",
        "sonnet",
        1,
        "go",
    )
    assert (session["prd_id"], session["run_id"], session["story_id"]) == ("PRD-1", "event-1", "US-002")
    assert session["stories"] == [{"story_id": "US-002", "since": world.now_ms}]
    assert world.run()["agents"] == [
        {
            "session_id": "S1",
            "agent": "claude",
            "state": "running",
            "doing": "Bash pytest",
            "since": world.now_ms,
            "last_at": world.now_ms,
            "story_id": "US-002",
            "call": {"tool": "Bash", "summary": "pytest", "since": world.now_ms},
        }
    ]


@pytest.mark.parametrize("prd", ["PRD-1", None])
def test_of_very_many_sessions_those_that_began_last_are_kept(prd: str | None):
    world = World()
    for number in range(KEPT_SESSIONS + 5):
        world.say("session.started", prd=prd, project="shop", session=f"S{number}", agent="claude")
    kept = [key for key in world.documents if key.startswith(("session/", "agent/"))]
    assert len(kept) == KEPT_SESSIONS
    assert session_key("shop", prd, "S4") not in kept
    assert session_key("shop", prd, "S5") in kept
    world.say("tool.started", prd=prd, project="shop", session="S0", tool="Bash")  # it lives after all
    assert world.session("S0", prd=prd, project="shop")["doing"] == "Bash"
    assert session_key("shop", prd, "S5") not in world.documents
    for at_once in (1, 7, len(world.events)):  # however a rebuild cuts them
        again = Documents()
        for first in range(0, len(world.events), at_once):
            ProgressProjection().apply(world.events[first : first + at_once], again)
        assert again == world.documents


def test_a_session_that_is_let_go_is_gone_for_a_replay_too():
    world, maker = World(), PatchMaker(STALLED_AFTER_MS)
    patches = []
    for number in range(KEPT_SESSIONS + 1):
        patches = maker.event(world.say("session.started", session=f"S{number}", agent="claude"))
    (gone,) = [patch for patch in patches if patch["value"] is None]
    assert gone["path"] == [session_key(None, "PRD-1", "S0")]
    assert not any(patch["path"][0].startswith("kept/") for patch in patches)


def test_a_killed_agent_ends_in_a_replay_when_it_is_taken_for_gone():
    world, maker = World(), PatchMaker(STALLED_AFTER_MS)
    maker.event(world.say("run.started"))
    maker.event(world.say("session.started", session="S1", agent="claude"))
    maker.event(world.say("tool.started", session="S1", tool="Bash"))
    ended = [patch for patch in maker.advance(world.now_ms + GONE_AFTER_MS) if patch["path"][-1] == "ended_at"]
    # Its run, which lists it no more, changes at the same moment.
    assert [(patch["at"], patch["value"]) for patch in ended] == [(world.now_ms + GONE_AFTER_MS, world.now_ms)]


def test_without_a_prd_it_is_kept_under_its_project():
    world = World()
    world.say("session.started", prd=None, project="shop", session="S1", agent="codex")
    world.say("tool.started", prd=None, project="shop", session="S1", tool="Edit")
    assert world.session(prd=None, project="shop")["doing"] == "Edit"
    assert world.session(prd=None, project="shop")["run_id"] is None


def test_what_it_does_from_call_to_call():
    world = play(f"{BEGUN} → tool.started session=S1 tool=Bash summary=ls call_id=c1")
    world.play(
        "tool.started session=S1 tool=Edit summary=a.py call_id=c2 → tool.completed session=S1 call_id=c2 tool=Edit"
    )
    assert world.session()["doing"] == "Bash ls"
    world.play("tool.failed session=S1 call_id=c1 tool=Bash")
    session = world.session()
    assert (session["doing"], session["open_calls"], session["calls"], session["failed_calls"]) == (
        "thinking",
        [],
        2,
        1,
    )
    assert session["doing_since"] == world.now_ms


def test_ends_without_beginnings_count_too():
    world = play(
        "tool.completed session=S1 tool=Bash → tool.started session=S1 tool=Bash → tool.completed session=S1 tool=Bash"
    )
    assert (world.session()["calls"], world.session()["open_calls"]) == (2, [])


@pytest.mark.parametrize(
    ("then", "state", "doing"),
    [
        ("agent.idle session=S1", "idle", None),
        ("session.compacting session=S1 trigger=auto", "compacting", "compacting its context"),
        ("session.compacting session=S1 → session.compacted session=S1", "running", "thinking"),
        (
            "session.compacting session=S1 → session.started session=S1 agent=claude reason=compact",
            "running",
            "thinking",
        ),
        ('agent.retrying session=S1 error="overloaded" attempt=2', "retrying", "trying again after overloaded"),
        ("agent.retrying session=S1 error=overloaded → tool.started session=S1 tool=Bash", "running", "Bash"),
        ("session.ended session=S1", "ended", None),
        ("session.ended session=S1 → prompt.submitted session=S1 prompt=more", "running", "thinking"),
        ('agent.waiting session=S1 for=human reason="permission Bash ls"', "waiting", None),
        ("agent.waiting session=S1 for=human reason=x → tool.completed session=S1 tool=Bash", "running", "thinking"),
        ("agent.waiting session=S1 for=human reason=x → agent.idle session=S1", "idle", None),
        ("agent.waiting session=S1 for=rate_limit reason=x → agent.idle session=S1", "waiting", None),
        ("agent.idle session=S1 → test.run session=S1 passed=1 failed=0", "idle", None),
    ],
)
def test_states(then: str, state: str, doing: str | None):
    session = play(f"{BEGUN} → {then}").session()
    assert (session["state"], session["doing"]) == (state, doing)


def test_idle_is_not_waiting_and_ends_the_runs_wait():
    world = play(f"{BEGUN} → agent.waiting session=S1 for=human reason=x")
    assert world.run()["state"] == "waiting"
    world.play("agent.idle session=S1")
    assert world.run()["state"] == "running"
    assert [agent["state"] for agent in world.run()["agents"]] == ["idle"]


def test_a_subagent_that_waits_is_not_helped_by_the_work_of_others():
    world = play(f"{BEGUN} → subagent.started session=S1 agent_id=a1 agent_type=Explore description=look")
    world.play("agent.waiting session=S1 for=human reason=x agent_id=a1 → tool.completed session=S1 tool=Bash")
    assert world.run()["state"] == world.session()["state"] == "waiting"
    world.play("tool.completed session=S1 tool=Bash agent_id=a1")
    assert world.run()["state"] == world.session()["state"] == "running"
    assert [agent["agent_id"] for agent in world.session()["subagents"]] == ["a1"]
    world.play("subagent.ended session=S1 agent_id=a1")
    assert (world.session()["subagents"], world.session()["subagents_seen"]) == ([], 1)


@pytest.mark.parametrize("end", ["run.completed success=true", "prd.completed success=false", "vanish"])
def test_the_end_of_a_run_ends_its_agents(end: str):
    if end == "vanish":
        end = "system.run_owned pid=7 → system.run_vanished pid=7"
    world = play(f"{BEGUN} → tool.started session=S1 tool=Bash → {end}")
    assert world.run()["agents"] == []
    assert (world.session()["state"], world.session()["open_calls"]) == ("ended", [])


def test_a_session_resumed_in_the_next_run_leaves_the_one_before():
    world = play(f"{BEGUN} → run.started → tool.started session=S1 tool=Bash")
    assert world.run("event-1")["agents"] == []
    assert [agent["doing"] for agent in world.run()["agents"]] == ["Bash"]


def test_an_interrupted_turn_leaves_no_call_open():
    world = play(f"{BEGUN} → tool.started session=S1 tool=Bash call_id=c → prompt.submitted session=S1 prompt=stop")
    assert world.session()["doing"] == "thinking"
    world.play("tool.started session=S1 tool=Bash call_id=d → prompt.submitted session=S1 prompt=x origin=system")
    assert world.session()["doing"] == "Bash"


def test_other_events_that_name_a_session_open_none():
    world = play("prd.started → test.run session=S9 passed=1 failed=0")
    assert not [key for key in world.documents if key.startswith("session/")]


def test_lists_stay_short():
    world = play("prd.started")
    for n in range(KEPT_CALLS + 5):
        world.say("tool.started", session="S1", tool="Bash", call_id=f"c{n}")
    for n in range(KEPT_AGENTS + 5):
        world.say("session.started", session=f"T{n}", agent="claude")
    assert [call["call_id"] for call in world.session()["open_calls"]][-1] == f"c{KEPT_CALLS + 4}"
    assert (len(world.session()["open_calls"]), len(world.run()["agents"])) == (KEPT_CALLS, KEPT_AGENTS)


def test_a_plan_names_stories_before_they_begin():
    stories = [
        {"story_id": "US-002", "title": "Cart", "priority": 2, "depends_on": ["US-001"], "passes": False},
        {"story_id": "US-001", "title": "Totals", "priority": 1, "passes": True},
    ]
    world = play("run.started")
    world.say("plan.updated", title="Checkout", stories=stories)
    assert (world.prd()["title"], world.run()["total_stories"]) == ("Checkout", 2)
    assert [(world.story(s)["number"], world.story(s)["title"]) for s in ("US-001", "US-002")] == [
        (1, "Totals"),
        (2, "Cart"),
    ]
    assert (world.story()["state"], world.story()["why"]) == ("done·claimed", ["it was done before this run began"])
    assert (world.story("US-002")["state"], world.story("US-002")["depends_on"]) == ("todo", ["US-001"])
    assert world.run()["counts"] == {"todo": 1, "running": 0, "failing": 0, "blocked": 0, "claimed": 1, "verified": 0}
    world.play("story.started")
    assert (world.story()["state"], world.story()["done_before"]) == ("running", False)
    world.say("plan.updated", stories=stories)
    assert world.story()["state"] == "running"


def test_a_story_that_passes_during_the_run_was_not_done_before_it():
    world = play("run.started")
    world.say("plan.updated", stories=[{"story_id": "US-001", "passes": False}])
    world.say("plan.updated", stories=[{"story_id": "US-001", "passes": True}])
    world.play("story.completed success=true")
    assert (world.story()["state"], world.story()["why"]) == ("done·claimed", ["no test run", "no commit"])


def test_a_title_that_only_says_the_id_again_is_none():
    world = play(f"run.started title={play('run.started').prd()['prd_id']}")
    assert world.prd()["title"] is None


def test_who_was_told_stands_on_the_run_until_the_cause_ends():
    world = play("prd.started → alert.sent kind=waiting channel=phone")
    assert world.run()["notified"] == {"kind": "waiting", "at": world.now_ms, "channel": "phone"}
    assert world.run()["last"]["seq"] == 1
    assert world.play("alert.resolved").run()["notified"] is None


def test_output_is_life_and_no_work():
    world = play("prd.started → agent.waiting for=human reason=x → output.chunk offset=100 bytes=20 text=hello")
    assert (world.run()["state"], world.run()["output_bytes"]) == ("waiting", 120)


def test_what_was_seen_before_a_story_was_known_to_be_at_work_counts_for_it():
    world = play("run.started")
    ids = {"story_id": None, "prd_id": "PRD-1"}
    for type_, data in (("test.run", {"passed": 2, "failed": 0}), ("commit.created", {"commit_hash": "abc1234"})):
        world.now_ms += 1000
        world.publish(Event(type_, data, source="claude", at=world.now_ms, **ids))
    world.now_ms += 1000
    started = Event("story.started", {"status": "in_progress"}, source="prd.json", at=world.now_ms, prd_id="PRD-1")
    started.story_id = "US-001"
    world.publish(started)
    world.play("story.completed success=true")
    assert (world.story()["state"], world.story()["tests"], world.story()["commits"]) == ("done·verified", 1, 1)
    assert (world.run()["tests"], world.run()["commits"]) == (1, 1)
    assert world.run()["last_test"]["story_id"] == "US-001"


def test_a_script_says_itself_what_belongs_to_a_story():
    world = play("run.started")
    world.publish(Event("test.run", {"passed": 2, "failed": 0}, source="claude", at=world.now_ms, prd_id="PRD-1"))
    world.play("story.started → story.completed success=true")
    assert (world.story()["state"], world.story()["tests"]) == ("done·claimed", 0)


@pytest.mark.parametrize("prd", ["PRD-1", None])
def test_the_prompt_that_follows_a_request_for_permission_is_the_same_wait_and_keeps_its_command(prd: str | None):
    world = World()
    about = {"prd": prd, "session": "S1", "for": "human", "kind": "permission"}
    world.say("agent.waiting", **about, reason="permission Bash ls", tool="Bash", agent_id="a1")
    first = world.session(prd=prd)["waiting"]
    world.say("agent.waiting", **about, reason="Claude needs your permission to use Bash")
    assert world.session(prd=prd)["waiting"] == first
    if prd is not None:
        assert [(wait["reason"], wait["since"]) for wait in world.run()["waits"]] == [(first["reason"], first["since"])]
    world.say("agent.waiting", **about, reason="permission Bash rm", tool="Bash")
    assert world.session(prd=prd)["waiting"]["reason"] == "permission Bash rm"


def test_who_was_told_of_an_agent_without_a_prd_stands_on_it_while_that_wait_lasts():
    world = World()
    loose = {"prd": None, "project": "shop", "session": "S1"}
    wait = {"for": "human", "reason": "permission Bash ls"}
    since = rfc3339(world.say("agent.waiting", **loose, **wait).at)
    world.say("alert.sent", **loose, kind="waiting", channel="phone", since="2026-01-01T00:00:00Z")
    assert world.session(prd=None, project="shop")["notified"] is None  # of a wait that is over
    world.say("alert.sent", **loose, kind="waiting", channel="phone", since=since)
    told = {"kind": "waiting", "at": world.now_ms, "channel": "phone"}
    assert world.session(prd=None, project="shop")["notified"] == told
    world.say("agent.waiting", **loose, **wait)  # said again, it is the same wait
    assert world.session(prd=None, project="shop")["notified"] == told
    world.say("agent.waiting", **loose, **{**wait, "reason": "permission Bash rm"})
    assert world.session(prd=None, project="shop")["notified"] is None

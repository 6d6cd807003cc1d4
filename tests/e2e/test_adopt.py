"""A night from end to end: a loop of ralph's shape under `claude-loop run`, hooks installed, a stand-in for the agent.

Nothing here emits anything: loop, agent, git and tests are what they are without us. tests/e2e/adopt has the stand-in.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.e2e.adopt.night import STORIES, Night
from tests.e2e.monitor import browser_context, launched, new_page
from tests.notify_receiver import configure, receiving
from tests.support import PATIENCE, alive, until

pytestmark = [pytest.mark.requires("linux"), pytest.mark.timeout(120), pytest.mark.slow]
PHONE = (
    '[[notify]]\nname = "phone"\nurls = ["{url}"]\ngrace = 0\nkinds = ["waiting", "rate_limited", "vanished", "done"]\n'
)


@pytest.fixture
def begin(home: Path) -> Iterator[Callable[..., Night]]:
    """Start a night with its daemon and its loop."""
    nights: list[Night] = []

    def begin(trouble: str = "", **options: Any) -> Night:
        nights.append(Night(home, trouble, **options))
        nights[0].daemon.start()
        nights[0].begin()
        return nights[0]

    yield begin
    for night in nights:
        night.end()


def assert_all_is_there_once(night: Night, *, attempts: int = 1) -> None:
    """What a night without a scar comes to, whatever happened on the way; ``attempts`` are those of the first story."""
    until(lambda: night.card()["state"] == "done·verified", what=f"verified, not {night.card()}")
    until(lambda: sum(c["data"]["bytes"] for c in night.events("output.chunk")) == night.shown.stat().st_size)
    told = night.told()
    once = dict.fromkeys(night.stories, 1)
    assert {story: told["story.started", story] for story in once} == once | {"US-001": attempts}
    assert {story: told["story.completed", story] for story in once} == once
    commits = night.events("commit.created")
    made = night.git("log", "--reverse", "--format=%H %s", f"HEAD~{len(once)}..HEAD").splitlines()
    assert [event["story_id"] for event in commits] == list(night.stories)
    for event, line in zip(commits, made, strict=True):
        hash_, _, subject = line.partition(" ")
        assert hash_.startswith(event["data"]["commit_hash"])
        assert event["data"]["subject"] == subject
    (begun,), (ended,) = night.events("run.started"), night.events("run.completed")
    tool = "" if night.agent == "claude" else f" --tool {night.agent}"
    assert begun["data"]["command"] == f"./ralph.sh 10{tool}"
    assert (ended["data"]["exit_code"], ended["data"]["success"]) == (0, True)
    assert {event["run_id"] for event in night.events()} == {begun["run_id"]}
    events = night.events()
    assert max(Counter(event["id"] for event in events).values()) == 1
    calls = Counter((event["type"], event["data"]["call_id"]) for event in events if event["type"].startswith("tool."))
    assert max(calls.values()) == 1
    until(lambda: night.leaks() == [], what="no file and no answer holds the secret")


def told_tests(night: Night) -> list[tuple[str, int, int]]:
    return [(e["story_id"], e["data"]["passed"], e["data"]["failed"]) for e in night.events("test.run")]


PASSED = [("US-001", 2, 0), ("US-002", 4, 0), ("US-003", 6, 0)]


def sessions_of(night: Night) -> list[dict[str, Any]]:
    sessions = night.get("/api/sessions?prd_id=checkout")["sessions"]
    return sorted(sessions, key=lambda session: session["first_at"])


@pytest.mark.requires("chromium", "page")
async def test_a_loop_that_knows_nothing_of_us_is_told_story_by_story(begin):
    night = begin()
    assert night.await_end() == 0
    assert_all_is_there_once(night)
    assert told_tests(night) == PASSED
    assert "<promise>COMPLETE</promise>" in night.shown.read_text()
    # The command line and HTTP say the same.
    assert [event["id"] for event in night.tail()] == [event["id"] for event in night.events()]
    (card,) = json.loads(night.daemon.run("prds", "--json").stdout)["prds"]
    assert (card["project"], card["prd_id"], card["state"], card["why"]) == ("shop", "checkout", "done·verified", [])
    assert (card["stories"], card["commits"], card["tests"], card["iteration"]) == (3, 3, 3, 3)
    assert card["counts"]["verified"] == 3
    detail = json.loads(night.daemon.run("show", "checkout", "--json").stdout)
    assert detail["stories"] == night.detail()["stories"]
    for story in detail["stories"]:
        assert (story["title"], story["state"], story["why"]) == (STORIES[story["story_id"]], "done·verified", [])
        assert (story["tests"], story["commits"], story["attempt"]) == (1, 1, 1)
    # One session a story, each with its calls, and ended.
    sessions = sessions_of(night)
    assert [(s["story_id"], s["agent"], s["state"]) for s in sessions] == [
        (story, "claude", "ended") for story in STORIES
    ]
    assert {session["run_id"] for session in sessions} == {card["run_id"]}
    whole = night.get(f"/api/sessions/{sessions[0]['session_id']}?project=shop")
    assert Counter(call["tool"] for call in whole["calls"]) == {
        "TodoWrite": 3, "Write": 2, "Bash": 2, "Read": 1, "Edit": 1,
    }  # fmt: skip
    assert all(call["ok"] for call in whole["calls"])
    for number, story in enumerate(STORIES, 1):
        assert f"Ralph Iteration {number} of 10" in night.output(number)
        assert f"Implemented {story} with key [redacted:anthropic-key]." in night.output(number)
    report = night.daemon.run("report").stdout
    assert "Nothing needs you." in report
    assert "3 stories: 3 verified" in report
    assert "3 commits: " in report
    assert "3 test runs, 3 passed" in report
    await _assert_monitor_shows(night, sessions[0]["session_id"])


async def _assert_monitor_shows(night: Night, session_id: str) -> None:
    async with launched() as browser, browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(f"{night.daemon.url}/prd/checkout?project=shop")
        for story in STORIES:
            await expect(page.get_by_text(STORIES[story]).first).to_be_visible()
        await expect(page.get_by_text("verified").first).to_be_visible()
        commit = re.compile(r"^commit [0-9a-f]{7} feat: \[US-003\] - Receipts")
        await expect(page.get_by_role("button", name=commit)).to_have_count(1)
        await page.get_by_text("bytes printed").click()
        output = page.get_by_role("region", name="Output of the run")
        await expect(output).to_contain_text("Ralph Iteration 3 of 10 (claude)")
        await expect(output).to_contain_text("Implemented US-003 with key [redacted:anthropic-key].")
        await page.goto(f"{night.daemon.url}/session/{session_id}?project=shop")
        await expect(page.get_by_role("region", name="Conversation")).to_contain_text("Do the next story of prd.json.")
        calls = page.get_by_role("region", name="Tool calls")
        await expect(calls.get_by_role("listitem")).to_have_count(9)
        await expect(calls).to_contain_text("git add -A && git commit -m 'feat: [US-001] - Cart totals'")
        assert page.complaints == []


def test_codex_tells_the_same_by_its_own_hooks(begin):
    night = begin("failing", agent="codex", count=2)
    assert night.await_end() == 0
    assert_all_is_there_once(night, attempts=2)
    assert told_tests(night) == [("US-001", 0, 2), *PASSED[:2]]
    sessions = sessions_of(night)
    assert [(s["story_id"], s["agent"], s["model"], s["state"]) for s in sessions] == [
        (story, "codex", "gpt-5.3-codex", "ended") for story in ("US-001", "US-001", "US-002")
    ]
    whole = night.get(f"/api/sessions/{sessions[-1]['session_id']}?project=shop")
    assert Counter(call["tool"] for call in whole["calls"]) == {"update_plan": 3, "apply_patch": 3, "Bash": 3}
    assert {event["source"] for event in night.events("tool.*", "session.*", "test.run")} == {"codex"}
    progress = [event["data"] for event in night.events("progress.updated")][-1]
    assert (progress["current"], progress["total"], progress["message"]) == (2, 3, "Commit")


def test_codex_asks_for_a_permission(begin, home):
    with receiving() as receiver:
        configure(home, PHONE.format(url=receiver.url))
        night = begin("permission", agent="codex", count=1)
        night.await_hold("permission")
        waiting = night.await_state("waiting")["waiting"]
        assert (waiting["for"], waiting["reason"]) == ("human", "permission Bash rm -rf build")
        until(lambda: receiver.texts == ["checkout waits for you: permission Bash rm -rf build"])
        night.release("permission")
        assert night.await_end() == 0
        assert_all_is_there_once(night)


def test_a_failing_test_is_a_failing_story_until_the_next_attempt(begin):
    night = begin("failing", count=1)
    first = until(lambda: _story(night, "US-001", "failing"))
    assert first["why"] == ["last test run had 2 failing"]
    assert first["last_test"]["failing"] == ["test_us_001.TestsUs001.test_nothing", "test_us_001.TestsUs001.test_two"]
    assert night.await_end() == 0
    assert_all_is_there_once(night, attempts=2)
    assert told_tests(night) == [("US-001", 0, 2), ("US-001", 2, 0)]
    assert [attempt["outcome"] for attempt in _story(night, "US-001")["attempts"]] == ["restarted", "completed"]


def _story(night: Night, story_id: str, state: str = "") -> dict[str, Any] | None:
    if not night.card():
        return None
    stories = night.detail()["stories"]
    return next((s for s in stories if s["story_id"] == story_id and state in ("", s["state"])), None)


def test_a_permission_wakes_a_person_once_and_so_does_its_end(begin, home):
    with receiving() as receiver:
        configure(home, PHONE.format(url=receiver.url))
        night = begin("permission", count=1)
        night.await_hold("permission")
        card = night.await_state("waiting")
        waiting = card["waiting"]
        assert (waiting["for"], waiting["reason"]) == ("human", "permission Bash rm -rf build")
        until(lambda: receiver.bodies)
        assert receiver.texts == ["checkout waits for you: permission Bash rm -rf build"]
        until(lambda: night.card()["notified"])
        assert "needs you" not in night.daemon.run("report").stdout.splitlines()[0]
        assert "permission Bash rm -rf build" in night.daemon.run("report").stdout
        (agent,) = night.card()["agents"]
        assert agent["state"] == "waiting"
        night.release("permission")
        assert night.await_end() == 0
        assert_all_is_there_once(night)
        until(lambda: len(receiver.bodies) == 3)
        assert receiver.texts[1].startswith("Resolved: checkout no longer waits: permission Bash rm -rf build")
        assert receiver.texts[2].startswith("checkout is done, verified · 1 of 1 stories done, 1 verified")
        told = ["alert.sent", "alert.resolved", "alert.sent"]
        until(lambda: [e["type"] for e in night.events("alert.*")] == told)  # once the receiver has answered


def test_a_usage_limit_holds_the_run_until_it_resets(begin, home):
    reset = int(time.time()) + 3600
    with receiving() as receiver:
        configure(home, PHONE.format(url=receiver.url))
        night = begin("rate_limit", count=1, STAND_IN_RESET=str(reset))
        night.await_hold("rate_limit")
        until(lambda: len(night.events("agent.waiting")) == 2, what="by hook and by output")
        card = night.await_state("waiting")
        assert (card["waiting"]["for"], card["waiting"]["until"]) == ("rate_limit", reset * 1000)
        assert len(card["waits"]) == 1
        assert "waiting for the rate limit since" in night.daemon.run("prds").stdout
        until(lambda: receiver.bodies)
        night.release("rate_limit")
        assert night.await_end() == 0
        assert_all_is_there_once(night, attempts=2)
        until(lambda: len(receiver.bodies) == 3)
        texts = [text.partition(" until ")[0] for text in receiver.texts]
        assert texts[0] == "checkout waits for the rate limit"
        assert texts[1].startswith("Resolved: checkout is no longer held by the rate limit")
        assert texts[2].startswith("checkout is done, verified")
        assert [wait["waited_for"] for wait in night.card()["past_waits"]] == ["rate_limit"]


def test_an_error_of_the_api_that_is_tried_again_holds_nobody_up(begin):
    night = begin("retry", count=1)
    night.await_hold("retry")
    agent = until(lambda: next((a for a in night.card().get("agents", ()) if a["state"] == "retrying"), None))
    assert agent["doing"].startswith("trying again after overloaded: 529 overloaded_error")
    assert night.card()["state"] == "running"
    night.release("retry")
    assert night.await_end() == 0
    assert_all_is_there_once(night)
    assert told_tests(night) == PASSED[:1]


def test_a_loop_that_is_killed_with_its_agent_has_vanished(begin, home):
    with receiving() as receiver:
        configure(home, PHONE.format(url=receiver.url))
        night = begin(STAND_IN_HOLD_AT="US-002")
        night.await_hold("tested")
        until(lambda: night.card().get("owned") is True)
        until(lambda: len(told_tests(night)) == 2)
        assert night.loop is not None
        os.killpg(night.loop.pid, signal.SIGKILL)
        night.loop.wait()
        card = night.await_state("vanished")
        assert (card["commits"], card["tests"]) == (1, 2)
        states = [("US-001", "done·verified"), ("US-002", "running"), ("US-003", "todo")]
        # What observers find is told a moment later.
        until(lambda: [(s["story_id"], s["state"]) for s in night.detail()["stories"]] == states)
        assert card["agents"] == []
        assert [session["state"] for session in sessions_of(night)] == ["ended", "ended"]
        until(lambda: receiver.bodies)
        assert receiver.texts[0].startswith("checkout vanished") or "vanished" in receiver.texts[0]
        report = night.daemon.run("report").stdout
        assert "Needs you now:" in report
        assert "vanished" in report
        until(lambda: night.leaks() == [])
        assert not alive(night.loop.pid)


def test_a_daemon_that_is_dead_while_the_work_is_done_tells_the_same_once(begin, home):
    """In each iteration it is killed before the tests, and comes back when the agent has ended."""
    with receiving() as receiver:
        configure(home, PHONE.format(url=receiver.url))
        night = begin("failing", STAND_IN_HOLDS="1")
        for number, (story, attempt) in enumerate([("US-001", 1), ("US-001", 2), ("US-002", 1), ("US-003", 1)], 1):
            night.await_hold("ready")
            wanted = (attempt, "running")
            until(lambda story=story, wanted=wanted: _at_work(night, story) == wanted, what=f"{story} is at work")
            night.daemon.kill()
            night.release("ready")
            until(lambda number=number: f"Iteration {number}" in _last_words(night))
            night.daemon.start()
        assert night.await_end() == 0
        assert_all_is_there_once(night, attempts=2)
        assert told_tests(night) == [("US-001", 0, 2), *PASSED]
        assert [(s["story_id"], s["state"]) for s in sessions_of(night)] == [
            (story, "ended") for story in ("US-001", *STORIES)
        ]
        until(lambda: receiver.bodies)
        assert len(receiver.texts) == 1
        assert receiver.texts[0].startswith("checkout is done, verified")


def test_what_was_begun_and_done_while_the_daemon_was_away_is_verified_all_the_same(begin):
    """It is killed in the first story and comes back in the third, before its tests."""
    night = begin(STAND_IN_HOLDS="1")
    night.await_hold("ready")
    until(lambda: _at_work(night, "US-001") == (1, "running"), PATIENCE, "the first story is at work")
    night.daemon.kill()
    for number in (1, 2):
        night.await_hold("ready")
        night.release("ready")
        until(lambda number=number: f"Iteration {number}" in _last_words(night), PATIENCE)
    night.await_hold("ready")
    night.daemon.start()
    until(lambda: _at_work(night, "US-003") == (1, "running"), PATIENCE, "the third story is at work")
    stories = {s["story_id"]: (s["state"], s["why"], s["attempt"]) for s in night.detail()["stories"]}
    assert stories == {
        "US-001": ("done·verified", [], 1),
        "US-002": ("done·verified", [], 1),
        "US-003": ("running", [], 1),
    }
    night.release("ready")
    assert night.await_end() == 0
    night.await_state("done·verified")
    assert [e["story_id"] for e in night.events("commit.created")] == list(night.stories)
    assert [s["story_id"] for s in sessions_of(night)] == list(night.stories)


def test_a_daemon_that_comes_when_all_is_over_tells_whose_each_test_and_commit_was(home):
    night = Night(home, count=2)
    try:
        night.begin()
        assert night.await_end() == 0
        night.daemon.start()
        night.await_state("done·verified")
        stories = night.detail()["stories"]
        assert [(s["story_id"], s["state"], s["tests"], s["commits"], s["attempt"]) for s in stories] == [
            (story, "done·verified", 1, 1, 1) for story in night.stories
        ]
        assert night.card()["finished_at"] is not None
        assert sorted((e["data"]["passed"], e["data"]["failed"]) for e in night.events("test.run")) == [(2, 0), (4, 0)]
        assert {session["state"] for session in sessions_of(night)} == {"ended"}
    finally:
        night.end()


def _at_work(night: Night, story_id: str) -> tuple[int, str] | None:
    story = _story(night, story_id)
    return None if story is None else (story["attempt"], story["state"])


def _last_words(night: Night) -> str:
    """Lines with which ralph ends an iteration."""
    ends = ("Iteration ", "Completed at iteration ")
    lines = [line for line in night.shown.read_text().splitlines() if line.startswith(ends)]
    return lines[-1].replace("Completed at iteration", "Iteration") if lines else ""

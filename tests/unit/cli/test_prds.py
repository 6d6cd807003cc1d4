"""`prds` and `show`, as they look."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from claude_loop.cli.amounts import money
from claude_loop.cli.prds import agent_lines, detail_lines, list_lines, of_project, without_most_earlier
from claude_loop.cli.terminal import clock_time, printable
from claude_loop.progress.views import Moment, list_cards, prd_detail
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, World, play


class Reader:
    def __init__(self, world: World) -> None:
        self._documents = world.documents

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {key: self._documents[key] for key in sorted(self._documents) if key.startswith(prefix)}


def listed(world: World) -> list[str]:
    cards = asyncio.run(list_cards(Reader(world), Moment(world.now_ms, STALLED_AFTER_MS, START_MS)))
    return list(list_lines(cards))  # type: ignore[arg-type]


def shown(world: World) -> list[str]:
    detail = asyncio.run(prd_detail(Reader(world), "PRD-1", Moment(world.now_ms, STALLED_AFTER_MS, START_MS)))
    return list(detail_lines(detail))  # type: ignore[arg-type]


def at(seconds: int) -> str:
    return clock_time(START_MS + seconds * 1000)


def test_live_agents_say_what_they_do():
    world = play(
        "prd.started → session.started session=S1 agent=claude → prompt.submitted session=S1 prompt=go "
        '→ tool.started session=S1 tool=Bash summary="pytest -q" story=US-001 → 12 s'
    )
    assert listed(world)[2] == "         ◇ claude US-001: Bash pytest -q · 12s"
    assert shown(world)[2] == "  ◇ claude US-001: Bash pytest -q · 12s"
    world.play("agent.idle session=S1 → 1 min")
    assert listed(world)[2] == "         ◇ claude US-001: idle · 1m00s"


def test_a_run_says_what_keeps_its_only_agent():
    world = play("prd.started → session.started session=S1 agent=claude")
    world.play('agent.retrying session=S1 error="overloaded" → 12 s')
    assert listed(world)[0] == "▶ PRD-1  running, claude is trying again after overloaded · 14s"
    world.play("session.started session=S2 agent=codex")
    assert "trying" not in listed(world)[0]


def test_a_promise_that_was_not_kept_is_a_failure():
    world = play("run.started → story.started → test.run passed=1 failed=1")
    world.play("log.message level=info message=m promise=COMPLETE → run.completed success=true exit_code=0")
    assert listed(world)[0] == "✗ PRD-1  failed: promised COMPLETE; 1 story failing · 4s"
    assert shown(world)[0] == listed(world)[0]


def test_a_run_says_in_which_tool_call_it_has_been_for_long():
    world = play("prd.started → session.started session=S1 agent=claude")
    world.play('tool.started session=S1 tool=Bash summary="npm test" → 12 min')
    assert listed(world)[0] == "▶ PRD-1  running, in Bash for 12m00s: npm test · 12m02s"


def test_agents_without_a_prd_have_a_line_each():
    session = {
        "project": "shop", "agent": "claude", "state": "running", "doing": "Grep TODO", "doing_since": 1000,
        "last": {"at": 3000}, "silent_ms": 2000, "waiting": None, "notified": None,
    }  # fmt: skip
    wait = {"for": "human", "since": 0, "until": None, "overdue": False, "reason": "permission Bash ls"}
    limit = wait | {"for": "rate_limit", "until": 65_000, "reason": "usage"}
    waiting = session | {"waiting": wait, "notified": {"at": 3000}, "project": "zoo"}
    assert list(agent_lines([session, session | {"waiting": limit}, waiting])) == [
        "Agents without a PRD:",
        f"◇ zoo claude: waiting for you: permission Bash ls · 5s · notified at {clock_time(3000)}",
        f"◇ shop claude: waiting for the rate limit, until {clock_time(65_000)} (1m00s): usage · 5s",
        "◇ shop claude: Grep TODO · 4s",
    ]
    assert list(agent_lines([])) == []


def test_who_was_told_is_said():
    world = play("prd.started → agent.waiting for=human reason=x → alert.sent kind=waiting")
    assert listed(world)[0] == f"⏸ PRD-1  waiting for you since {at(2)}: x · notified at {at(3)}"


@pytest.mark.parametrize(
    ("scenario", "line"),
    [
        ("prd.started → 2 min", "▶ PRD-1  running · 2m00s"),
        ("prd.started title=Checkout → story.started → 5 s", "▶ PRD-1 Checkout  running US-001 · 6s"),
        (
            'prd.started → agent.waiting for=human reason="permission Bash rm -rf build"',
            f"⏸ PRD-1  waiting for you since {at(2)}: permission Bash rm -rf build",
        ),
        (
            'prd.started → agent.waiting for=rate_limit reason=limit until="2026-01-26T12:05:00Z"',
            f"⏸ PRD-1  waiting for the rate limit since {at(2)}, until {at(300)} (4m58s): limit",
        ),
        (
            'prd.started → agent.waiting for=other reason=CI until="2026-01-26T12:05:00Z" → 6 min',
            f"⏸ PRD-1  waiting for something since {at(2)}, until {at(300)} (overdue): CI",
        ),
        ("prd.started → 6 min", "… PRD-1  stalled: silent for 6m00s, last: prd.started"),
        (
            "prd.started → system.run_vanished pid=1 → 1 min",
            f"☠ PRD-1  vanished: its process is gone since {at(2)}, without finishing",
        ),
        ("prd.started → control.paused → 1 min", "⏸ PRD-1  paused · 1m01s"),
        ("prd.started → prd.completed success=false", "✗ PRD-1  failed: it was reported as failed · 1s"),
        (
            "prd.started total_stories=1 → prd.completed success=true",
            "~ PRD-1  done, claimed: 1 story not started; no story was reported · 1s",
        ),
    ],
)
def test_each_state_in_words(scenario, line):
    world = play(scenario)
    assert listed(world)[0] == line
    assert shown(world)[0] == line


def test_names_are_aligned_and_stories_counted():
    world = play("prd.started prd=A total_stories=3 → story.started prd=A → test.run prd=A passed=1 failed=1")
    world.play("prd.started prd=LONGER-1")
    assert listed(world) == [
        "▶ LONGER-1  running · 0s",
        "            no story yet",
        "▶ A         running US-001 · 3s",
        "            1 failing · 2 to do",
    ]


def test_a_very_long_name_moves_its_own_line_only():
    world = play(f"prd.started prd={'x' * 60} → prd.started prd=B")
    assert listed(world)[0] == "▶ B  running · 0s"


def test_show_has_a_line_for_each_story():
    world = play("prd.started total_stories=5 → prd.completed success=false → prd.started total_stories=5")
    world.play("story.started story=US-001 title=Cart → test.run story=US-001 passed=3 failed=1")
    world.say("test.run", story="US-001", passed=2, failed=2, failures=[{"name": "test_a"}, {"name": "test_b"}])
    world.play("story.started story=US-001 → 10 min → test.run story=US-001 passed=4 failed=0")
    world.play("commit.created story=US-001 commit_hash=0123456789012345678901234567890123456789")
    world.play("story.completed story=US-001 success=true → story.started story=US-002")
    world.say("test.run", story="US-002", passed=1, failed=2, failures=[{"name": "test_c"}, {"name": "test_d"}])
    world.play('story.blocked story=US-03 reason="needs US-002" → story.completed story=US-04 success=true')
    assert shown(world) == [
        "▶ PRD-1  running US-002 · 10m11s",
        "  1 verified · 1 claimed · 1 failing · 1 blocked · 1 to do · run 2 of 2",
        "  ✓ US-001 Cart  done, verified · 2 attempts · 10m06s · tests 4 passed · commit 0123456",
        "  ✗ US-002       failing: last test run had 2 failing · tests 1 passed 2 failed: test_c, test_d",
        "  ⊘ US-03        blocked: needs US-002",
        "  ~ US-04        done, claimed: no test run; no commit",
    ]


def test_nothing_reaches_the_terminal_unwashed():
    nasty = "a\x1b[2Jb\u202e"
    world = World()
    world.say("prd.started", title=nasty)
    world.say("story.started", story="US\x1b[0m", title=nasty)
    world.say("test.run", story="US\x1b[0m", passed=0, failed=1, failures=[{"name": nasty}])
    world.say("commit.created", story="US\x1b[0m", commit_hash="abc1", subject="a\x07")
    world.say("story.blocked", story="US-2", reason=nasty)
    world.say("agent.waiting", **{"for": "human", "reason": nasty})
    lines = [*listed(world), *shown(world)]
    assert [printable(line, 10_000) for line in lines] == lines


def test_the_cost_of_a_run_is_said_when_it_is_known():
    world = play("prd.started total_stories=1 → usage.reported cost_usd=14.2 input_tokens=3400000 output_tokens=54652")
    assert listed(world)[1] == "         1 to do · $14.20"
    assert shown(world)[2] == "  used $14.20, 3.4M tokens in, 54.7k out"
    world = play("prd.started → usage.reported output_tokens=7")
    assert listed(world)[1] == "         no story yet"
    assert shown(world)[2] == "  used 7 tokens out"


def test_what_an_agent_promised_is_said():
    assert "  promised COMPLETE" in shown(play("prd.started → log.message level=info message=m promise=COMPLETE"))


def test_money_in_words():
    assert [money(usd) for usd in (0, 0.004, 0.006, 999.994, 1240.4)] == [
        "$0.00",
        "<$0.01",
        "$0.01",
        "$999.99",
        "$1,240",
    ]


def test_what_was_done_before_today_does_not_push_the_rest_off_the_screen():
    cards = [{"prd_id": n, "group": "running" if n < 30 else "earlier"} for n in range(60)]
    assert [card["prd_id"] for card in without_most_earlier(cards)] == list(range(40))
    assert without_most_earlier(cards[:35]) == cards[:35]


def test_one_project_or_none():
    cards = [{"prd_id": "A", "project": "shop"}, {"prd_id": "B", "project": None}, {"prd_id": "C", "project": "blog"}]
    assert [card["prd_id"] for card in of_project("shop", cards)] == ["A"]
    assert [card["prd_id"] for card in of_project("", cards)] == ["B"]
    assert of_project("sho", cards) == []


def test_a_run_that_a_later_one_followed_never_finished():
    world = play("prd.started → story.started → 10 min → prd.started")
    moment = Moment(world.now_ms, STALLED_AFTER_MS, START_MS)
    detail: Any = asyncio.run(prd_detail(Reader(world), "PRD-1", moment, run_id="event-1"))
    assert next(detail_lines(detail | {"prd": detail["prd"] | detail["run"]})) == (
        "… PRD-1  never finished: a later run began · 1s"
    )

"""The report: what lies in the range and what does not, and what needs a person."""

from datetime import datetime

import pytest

from claude_loop.cli.report_text import as_text, body_lines, title_line
from claude_loop.clock import ManualClock
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.spans import clipped, total
from tests.http_rig import serving

NOON = 1_769_428_800  # the clock of the test, seconds


def at(seconds):
    """Here, as the command takes it."""
    return datetime.fromtimestamp(seconds).astimezone()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def rig(clock):
    async with serving(MemoryEventLog(ProgressProjection(), clock), clock=clock) as one:
        yield one


async def report(rig, **query):
    return await rig.get("/api/report", params=query)


def test_spans():
    assert clipped((5, 20), 10, 30) == (10, 20)
    assert clipped((5, 9), 10, 30) is None
    assert clipped((30, 40), 10, 30) == (30, 30)
    assert clipped((31, 40), 10, 30) is None
    assert clipped((10, 10), 10, 30) == (10, 10)
    assert total([(0, 10), (5, 15), (20, 25), (6, 7)]) == 20
    assert total([]) == 0


async def test_counts_are_those_of_the_range_and_waits_are_cut_to_it(rig, clock):
    ids = {"project": "shop", "story_id": "US-001"}
    await rig.emit("prd.started", "SHOP-7", data={"status": "running"}, project="shop")
    await rig.emit("commit.created", "SHOP-7", data={"story_id": "US-001", "commit_hash": "aaaaaaa"}, **ids)
    waiting = {"for": "human", "reason": "permission"}
    clock.advance(600)
    await rig.emit("agent.waiting", "SHOP-7", data=waiting, project="shop")
    clock.advance(1200)
    await rig.emit("agent.resumed", "SHOP-7", data={}, project="shop")
    await rig.emit("commit.created", "SHOP-7", data={"story_id": "US-001", "commit_hash": "bbbbbbb"}, **ids)
    await rig.emit("error.occurred", "SHOP-7", data={"error": "overloaded"}, project="shop")
    clock.advance(600)
    await rig.emit("prd.completed", "SHOP-7", data={"success": True, "status": "completed"}, project="shop")
    whole = await report(rig)
    (prd,) = whole["prds"]
    assert (prd["commits"], prd["errors"], prd["waited_ms"], prd["worked_ms"]) == (2, 1, 1_200_000, 1_200_000)
    assert [commit["hash"] for commit in prd["latest_commits"]] == ["aaaaaaa", "bbbbbbb"]
    late = await report(rig, since=str(NOON + 1200), until=str(NOON + 2000))
    (prd,) = late["prds"]
    assert (prd["commits"], prd["waited_ms"], prd["worked_ms"]) == (1, 600_000, 200_000)
    assert prd["waits"][0]["since"] == (NOON + 1200) * 1000
    assert (await report(rig, since=str(NOON + 9000), until=str(NOON + 9001)))["prds"] == []
    assert (await report(rig, project="blog"))["prds"] == []
    assert whole["needs"] == []


async def test_what_needs_a_person_comes_first_the_most_urgent_before_the_others(rig, clock):
    for prd_id, type_, data in (
        ("FAILED", "prd.completed", {"success": False, "status": "failed"}),
        ("LIMITED", "agent.waiting", {"for": "rate_limit", "reason": "usage"}),
        ("WAITS", "agent.waiting", {"for": "human", "reason": "permission"}),
    ):
        await rig.emit("prd.started", prd_id, data={"status": "running"}, project="shop")
        await rig.emit(type_, prd_id, data=data, project="shop")
    answer = await report(rig)
    assert [(need["prd_id"], need["state"], need["reason"]) for need in answer["needs"]] == [
        ("WAITS", "waiting", "permission"),
        ("FAILED", "failed", "it was reported as failed"),
    ]
    clock.advance(86_400)
    later = await report(rig)
    assert [need["prd_id"] for need in later["needs"]] == ["WAITS"]  # a failure of days ago is known by now


@pytest.mark.parametrize(
    ("query", "begin", "end"),
    [
        ({"since": "1h"}, NOON - 3600, NOON),
        ({"since": "1h", "until": "2d"}, NOON - 2 * 86_400 - 3600, NOON - 2 * 86_400),
        ({"since": "999999999w"}, 0, NOON),
        ({"since": f"{NOON - 60}", "until": "2026-01-26T12:00:00Z"}, NOON - 60, NOON),
        ({"until": f"{NOON}000"}, NOON - 12 * 3600, NOON),
        ({"since": f"{at(NOON - 60):%H:%M}"}, NOON - 60, NOON),
        ({"since": f"{at(NOON - 60):%H:%M}", "until": f"{at(NOON - 120):%H:%M:%S}"}, NOON - 86_460, NOON - 120),
        ({"since": f"{at(NOON - 86_400):%Y-%m-%d}"}, at(NOON - 86_400).replace(hour=0, minute=0).timestamp(), NOON),
        ({"since": f"{at(NOON - 86_400):%Y-%m-%dT%H:%M:%S}"}, NOON - 86_400, NOON),  # local, as in the command
    ],
)
async def test_a_range_is_written_as_for_the_command(rig, query, begin, end):
    answer = await report(rig, **query)
    assert (answer["since"], answer["until"]) == (begin * 1000, end * 1000)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "1900-01-01T00:00:00Z"}, "since"),
        ({"since": "25:00"}, "since"),
        ({"since": "1e9"}, "since"),
        ({"until": "2026-13-01T00:00:00Z"}, "until"),
        ({"since": "1769428800", "until": "1769428000"}, "since"),
        ({"from": "now"}, "from"),
    ],
)
async def test_a_range_that_cannot_be_is_refused(rig, query, field):
    answer = await rig.get("/api/report", status=400, params=query)
    assert answer["error"]["field"] == field


async def say(rig, type_, session="S1", project="shop", **data):
    await rig.emit(type_, None, project=project, session_id=session, data=data)


async def test_agents_without_a_prd_need_a_person_too_and_what_they_did_stands_under_their_project(rig, clock):
    await say(rig, "session.started", agent="claude")
    await say(rig, "prompt.submitted", prompt="Fix the coupons")
    clock.advance(600)
    await say(rig, "agent.waiting", **{"for": "human", "reason": "permission Bash rm -rf build"})
    await say(rig, "log.message", message="is shown")
    clock.advance(600)
    await say(rig, "tool.started", tool="Bash")
    await say(rig, "test.run", passed=3, failed=0)
    await say(rig, "commit.created", commit_hash="abc123d", subject="Coupons")
    await say(rig, "session.ended")
    clock.advance(600)
    await say(rig, "session.started", "S2", "blog", agent="codex")
    await say(rig, "agent.waiting", "S2", "blog", **{"for": "rate_limit", "reason": "usage limit"})
    await say(rig, "agent.waiting", "S3", None, **{"for": "human", "reason": "an answer"})
    answer = await report(rig)
    assert [(need["project"], need["agent"], need["waits_for"], need["reason"]) for need in answer["needs"]] == [
        (None, None, "human", "an answer"),
        ("blog", "codex", "rate_limit", "usage limit"),
    ]
    assert answer["prds"] == []
    blog, shop, _ = answer["projects"]
    assert [(wait["waited_for"], wait["ended_at"]) for wait in blog["waits"]] == [("rate_limit", None)]
    (session,) = shop["sessions"]
    assert (session["agent"], session["state"], session["last_prompt"]) == ("claude", "ended", "Fix the coupons")
    assert (shop["tests"]["passing"], shop["commits"], shop["latest_commits"][0]["hash"]) == (1, 1, "abc123d")
    (wait,) = shop["waits"]
    assert (wait["since"], wait["waited_ms"], wait["reason"]) == (
        (NOON + 600) * 1000,
        600_000,
        "permission Bash rm -rf build",
    )
    late = await report(rig, since=str(NOON + 900), until=str(NOON + 1100), project="shop")
    (shop,) = late["projects"]
    assert (shop["waited_ms"], shop["commits"], late["needs"]) == (200_000, 0, [])
    assert (await report(rig, since=str(NOON + 9000), until=str(NOON + 9001), project="shop"))["projects"] == []


async def test_waits_of_an_agent_are_the_reducers_each_once(rig, clock):
    question = {"for": "human", "reason": "question"}
    await say(rig, "session.started")
    for _ in range(3):
        await say(rig, "agent.waiting", **question)
        clock.advance(60)
        await say(rig, "agent.waiting", **question)  # said again, it is the same one
        await say(rig, "agent.idle")
        for _ in range(30):
            await say(rig, "tool.started", tool="Read")
    await say(rig, "agent.waiting", **question)
    clock.advance(1)
    await say(rig, "agent.waiting", **(question | {"reason": "another"}))
    clock.advance(86_400)  # nobody heard of it again
    answer = await report(rig, since=str(NOON), until=str(NOON + 3600))
    assert answer["needs"] == []
    (project,) = answer["projects"]
    assert [(wait["reason"], wait["waited_ms"]) for wait in project["waits"]] == [
        *(("question", 60_000) for _ in range(3)),
        ("question", 1000),
        ("another", 0),
    ]


async def test_the_cost_is_that_of_the_runs_at_work_in_the_range(rig, clock):
    for cost in (1.5, 0.25):
        await rig.emit("prd.started", "SHOP-7", data={"status": "running"}, project="shop")
        await rig.emit("usage.reported", "SHOP-7", data={"cost_usd": cost}, project="shop")
        await rig.emit("prd.completed", "SHOP-7", data={"success": True, "status": "completed"}, project="shop")
        clock.advance(600)
    (prd,) = (await report(rig))["prds"]
    assert prd["cost_usd"] == 1.75
    assert "cost of its 2 runs: $1.75" in list(body_lines(prd))
    (prd,) = (await report(rig, since=str(NOON + 300)))["prds"]
    assert prd["cost_usd"] == 0.25
    await rig.emit("prd.started", "FREE", data={"status": "running"}, project="shop")
    assert [prd["cost_usd"] for prd in (await report(rig))["prds"] if prd["prd_id"] == "FREE"] == [None]


async def test_a_promise_is_reported_for_the_range_it_was_given_in(rig, clock):
    await rig.emit("prd.started", "SHOP-7", data={"status": "running"}, project="shop")
    clock.advance(60)
    await rig.emit(
        "log.message", "SHOP-7", data={"level": "info", "message": "m", "promise": "COMPLETE"}, project="shop"
    )
    clock.advance(600)
    await rig.emit("log.message", "SHOP-7", data={"level": "info", "message": "later"}, project="shop")
    (prd,) = (await report(rig))["prds"]
    assert prd["promise"] == "COMPLETE"
    assert "promised: COMPLETE" in list(body_lines(prd))
    (prd,) = (await report(rig, since=str(NOON + 120)))["prds"]
    assert prd["promise"] is None


async def test_a_promise_that_was_not_kept_needs_a_person(rig):
    said = {"level": "info", "message": "m", "promise": "COMPLETE"}
    for type_, data, ids in (
        ("run.started", {}, {}),
        ("story.started", {}, {"story_id": "US-1"}),
        ("story.completed", {"success": True}, {"story_id": "US-1"}),
        ("test.run", {"passed": 3, "failed": 1}, {"story_id": "US-2"}),
        ("log.message", said, {}),
        ("run.completed", {"success": True, "exit_code": 0}, {}),
    ):
        await rig.emit(type_, "SHOP-7", data=data, project="shop", **ids)
    answer = await report(rig)
    assert [(need["state"], need["reason"]) for need in answer["needs"]] == [
        ("failed", "promised COMPLETE; 1 story failing")
    ]
    assert title_line(answer["prds"][0]).startswith("shop/SHOP-7: failed: promised COMPLETE; 1 story failing")


async def test_an_agent_without_a_prd_that_failed_needs_a_person_until_it_goes_on(rig, clock):
    agent = {"project": "shop", "session_id": "S1"}
    await rig.emit("session.started", None, data={"agent": "claude"}, **agent)
    await rig.emit("prompt.submitted", None, data={"prompt": "go"}, **agent)
    clock.advance(60)
    await rig.emit("error.occurred", None, data={"error": "server_error: 500"}, **agent)
    assert (await report(rig))["needs"] == []  # it may go on by itself
    await rig.emit("agent.idle", None, data={}, **agent)
    (need,) = (await report(rig))["needs"]
    assert (need["session_id"], need["state"], need["reason"]) == ("S1", "failed", "server_error: 500")
    assert need["since"] == (NOON + 60) * 1000
    assert "claude in shop: failed" in next(line for line in as_text(await report(rig)) if "500" in line)
    await rig.emit("prompt.submitted", None, data={"prompt": "again"}, **agent)
    assert (await report(rig))["needs"] == []

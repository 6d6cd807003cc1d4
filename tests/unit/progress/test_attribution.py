"""Which story an observer's event is taken to be of."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.progress.projection import ProgressProjection
from tests.unit.progress.test_any_events import events_of, plausible


@pytest.fixture
async def log():
    log = MemoryEventLog(ProgressProjection(), ManualClock())
    await log.open(nobody)
    yield log
    await log.close()


number = 0


def event(type_: str, data: dict[str, Any] | None = None, source: str = "bash", **ids: Any) -> Event:
    global number  # noqa: PLW0603 - only to name them
    number += 1
    return Event(type_, data or {}, id=f"a{number}", prd_id="PRD-1", source=source, at=1000 + number, **ids)


def commit(*mentions: Any, source: str = "git", **ids: Any) -> Event:
    return event("commit.created", {"commit_hash": f"{number:07d}", "mentions": list(mentions)}, source, **ids)


HOUR_AGO_MS = ManualClock().now_us() // 1000 - 3600_000
PLAN = {"stories": [{"story_id": f"US-{number}", "priority": number} for number in (1, 2, 3)]}


async def stories(log: MemoryEventLog, *events: Event) -> list[str | None]:
    await log.append(events)
    stored = await log.read(0, 100)
    return [found.story_id for found in stored.events[-len(events) :]]


async def test_what_is_observed_belongs_to_the_only_running_story(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1")])
    observed = [event("tool.started", source=source) for source in ("claude", "codex", "git", "output", "prd.json")]
    assert await stories(log, *observed) == ["US-1"] * 5


async def test_what_is_heard_after_the_next_story_has_begun_is_of_the_one_that_was_at_work_then(log):
    def told(type_: str, at: int, source: str = "prd.json", **ids: Any) -> Event:
        found = event(type_, {"success": True} if type_ == "story.completed" else {}, source, **ids)
        found.at = at
        return found

    await log.append([told("prd.started", 5000), told("story.started", 5000, story_id="US-1")])
    await log.append([told("story.completed", 6000, story_id="US-1"), told("story.started", 6000, story_id="US-2")])
    tests = [told("test.run", at, source="output") for at in (4999, 5500, 6001)]
    # Before the run nobody was at work: what is left then is the story that is.
    assert await stories(log, *tests) == ["US-2", "US-1", "US-2"]
    await log.append([told("story.completed", 7000, story_id="US-2"), told("story.started", 7000, story_id="US-3")])
    assert await stories(log, told("test.run", 6500, source="output")) == ["US-2"]


@pytest.mark.parametrize("order", ["tests first", "story first"])
async def test_the_last_tests_of_a_run_are_of_its_last_story_though_both_are_heard_after_the_end(log, order):
    await log.append([event("run.started"), event("story.started", source="prd.json", story_id="US-1")])
    tests = event("test.run", {"passed": 3, "failed": 0}, "output")
    done = event("story.completed", {"success": True}, "prd.json", story_id="US-1")
    await log.append([event("run.completed", {"success": True})])
    await log.append([tests, done] if order == "tests first" else [done, tests])
    (story,) = (await log.entities("story/")).values()
    assert (story["tests"], story["why"]) == (1, ["no commit"])


async def test_the_last_tests_of_a_run_that_left_its_story_are_of_that_story(log):
    await log.append([event("run.started"), event("story.started", source="prd.json", story_id="US-1")])
    await log.append([event("story.completed", {"success": True}, "prd.json", story_id="US-1")])
    await log.append([event("story.started", source="prd.json", story_id="US-2")])
    tests = event("test.run", {"passed": 2, "failed": 1}, "output")
    await log.append([event("run.completed", {"success": False, "exit_code": 1})])
    assert await stories(log, tests) == ["US-2"]
    left = (await log.entities("story/"))[f"story/*/PRD-1/{tests.run_id}/US-2"]
    assert left["why"] == ["the run ended before attempt 1 was completed", "last test run had 1 failing"]


async def test_of_several_stories_that_were_left_nobody_guesses(log):
    await log.append([event("run.started"), *(event("story.started", story_id=f"US-{n}") for n in (1, 2))])
    tests = event("test.run", {"passed": 2, "failed": 1}, "output")
    await log.append([event("run.completed", {"success": False})])
    assert await stories(log, tests) == [None]


async def test_a_story_that_was_left_and_taken_up_again_is_left_no_more(log):
    await log.append([event("run.started"), event("story.started", story_id="US-1")])
    await log.append([event("run.completed", {"success": False})])
    (run,) = (await log.entities("run/")).values()
    assert run["left"] == ["US-1"]
    await log.append([event("story.started", story_id="US-1")])
    (run,) = (await log.entities("run/")).values()
    assert (run["left"], len(run["running"])) == ([], 1)


def late(type_: str, session: str, at: int, **data: Any) -> Event:
    found = event(type_, data, source="claude", session_id=session)
    found.at = HOUR_AGO_MS + at
    return found


async def test_a_session_that_began_after_a_commit_works_on_what_comes_next_if_it_is_heard_late(log):
    """The daemon was away: nobody has told that the story which it knows is done."""
    await log.append([event("prd.started"), event("story.started", story_id="US-1"), event("plan.updated", PLAN)])
    heard = await stories(
        log,
        late("session.started", "S1", 2000),
        late("test.run", "S1", 2100, passed=1, failed=0),
        late("commit.created", "S1", 2200, commit_hash="aaaaaaa"),
        late("test.run", "S1", 2300, passed=1, failed=0),
        late("session.started", "S2", 2400),
        late("test.run", "S2", 2500, passed=0, failed=2),
        late("test.run", "S2", 2600, passed=2, failed=0),
        late("commit.created", "S2", 2700, commit_hash="bbbbbbb", mentions=["US-2"]),
        late("session.ended", "S2", 2800),
        late("session.started", "S3", 2900),
        late("test.run", "S3", 3000, passed=0, failed=3),
    )
    assert heard == ["US-1"] * 4 + [None] * 3 + ["US-2"] * 2 + [None] * 2
    done = [event("story.completed", {"success": True}, "prd.json", story_id=story) for story in ("US-1", "US-2")]
    await log.append([*done, event("story.started", {"after": HOUR_AGO_MS + 2800}, "prd.json", story_id="US-3")])
    found = {story["story_id"]: story for story in (await log.entities("story/")).values()}
    assert {id_: story["state"] for id_, story in found.items()} == {
        "US-1": "done·verified",
        "US-2": "done·verified",
        "US-3": "failing",
    }


async def test_what_is_heard_at_once_is_of_the_story_that_is_known_to_be_at_work(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1"), commit("US-1")])
    heard = await stories(log, late("session.started", "S2", 3600_000), late("test.run", "S2", 3600_001))
    assert heard == ["US-1"] * 2


async def test_what_a_session_was_taken_to_work_on_before_that_was_known_to_be_done_binds_it_no_more(log):
    def plan(type_: str, at: int, story_id: str) -> Event:
        told = event(type_, {"success": True} if type_ == "story.completed" else {}, "prd.json", story_id=story_id)
        told.at = HOUR_AGO_MS + at
        return told

    await log.append([event("prd.started"), plan("story.started", 3590_000, "US-1")])
    assert await stories(log, late("session.started", "S2", 3598_500)) == ["US-1"]
    await log.append([plan("story.completed", 3597_000, "US-1"), plan("story.started", 3597_100, "US-2")])
    assert await stories(log, late("test.run", "S2", 3597_500, passed=1, failed=0)) == ["US-2"]


async def test_what_was_seen_before_others_passed_is_not_the_next_storys(log):
    await log.append([event("prd.started"), event("plan.updated", PLAN)])
    await log.append(
        [late("test.run", "S1", 2000, passed=1, failed=0), late("commit.created", "S1", 2100, commit_hash="a" * 7)]
    )
    await log.append([event("story.started", {"after": HOUR_AGO_MS + 2200}, "prd.json", story_id="US-3")])
    (third,) = [story for story in (await log.entities("story/")).values() if story["story_id"] == "US-3"]
    assert (third["last_test"], third["last_commit"]) == (None, None)


async def test_others_say_their_story_themselves(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1")])
    told = [event("tool.started"), event("tool.started", source="claude", story_id="US-9")]
    assert await stories(log, *told) == [None, "US-9"]


async def test_between_several_stories_and_without_any_nobody_guesses(log):
    assert await stories(log, event("prd.started"), event("tool.started", source="claude")) == [None, None]
    several = [event("story.started", story_id="US-1"), event("story.started", story_id="US-2")]
    assert await stories(log, *several, event("tool.started", source="claude")) == ["US-1", "US-2", None]
    assert await stories(log, event("story.completed", story_id="US-1"), commit()) == ["US-1", "US-2"]
    assert await stories(log, event("story.completed", story_id="US-2"), commit()) == ["US-2", None]


async def test_a_commit_belongs_to_the_first_story_of_the_run_that_it_names(log):
    begun = [event("prd.started"), event("story.started", story_id="US-1"), event("story.completed", story_id="US-1")]
    await log.append([*begun, event("story.started", story_id="US-2")])
    named = [commit("UTF-8", "US-1", "US-2"), commit("US-99"), commit(3, None, {}), commit("US-1", source="bash")]
    assert await stories(log, *named) == ["US-1", "US-2", "US-2", None]
    story = await log.entities("story/")
    done = next(document for document in story.values() if document["story_id"] == "US-1")
    assert done["commits"] == 1


async def test_stories_of_an_earlier_run_do_not_count(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1"), event("prd.started")])
    assert await stories(log, commit("US-1")) == [None]


async def test_what_is_about_the_run_is_of_no_story(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1")])
    whole = [event("plan.updated", source="prd.json"), event("iteration.started", {"iteration": 2}, source="output")]
    assert await stories(log, *whole) == [None, None]


async def test_without_a_prd_there_is_no_story(log):
    lost = Event("tool.started", {}, id="lost", project="shop", source="claude")
    assert await stories(log, lost) == [None]


async def test_a_retry_without_the_story_is_a_repetition(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1")])
    for _ in range(2):
        again = Event("tool.started", {"tool": "Bash"}, id="same", prd_id="PRD-1", source="claude", at=5)
        (outcome,) = await log.append([again])
        assert (outcome.seq, outcome.error) == (3, None)
    other = Event("tool.started", {"tool": "Bash"}, id="same", prd_id="PRD-1", story_id="US-2", source="claude", at=5)
    (outcome,) = await log.append([other])
    assert outcome.error is not None


storable = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["prd.started", "story.started", "story.started", "story.completed", "commit.created", "test.run",
                 "tool.started", "agent.waiting", "story.blocked", "run.completed"]
            ),
            "data": plausible,
            "prd_id": st.sampled_from(["PRD-1", "PRD-1", "PRD-2", None]),
            "project": st.just("shop"),
            "story_id": st.sampled_from([None, None, "US-1", "US-2"]),
            "run_id": st.sampled_from([None, None, None, "R1"]),
            "source": st.sampled_from(["bash", "git", "claude", "output"]),
            "at": st.integers(-400_000, 400_000),
        }
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(storable)
def test_both_backends_and_a_rebuild_agree_on_every_story(stream: list[dict[str, Any]]):
    async def told_by(log: Any) -> Any:
        await log.open(nobody)
        fresh = [Event(e.type, e.data, e.id, e.project, e.prd_id, e.story_id, e.run_id, e.session_id, e.source, e.at)
                 for e in events_of(stream)]  # fmt: skip
        half = len(fresh) // 2
        await log.append(fresh[:half])
        await log.append(fresh[half:])
        stored = [(e.seq, e.id, e.run_id, e.story_id) for e in (await log.read(0, 100)).events]
        documents = await log.entities("")
        await log.rebuild()
        assert await log.entities("") == documents
        await log.close()
        return stored, documents

    with tempfile.TemporaryDirectory() as folder:
        in_memory = asyncio.run(told_by(MemoryEventLog(ProgressProjection(), ManualClock())))
        path = Path(folder) / "events.db"
        assert asyncio.run(told_by(SqliteEventLog(path, ProgressProjection(), ManualClock()))) == in_memory


async def test_the_wait_of_a_session_has_the_story_found_for_it_also_after_a_rebuild(log):
    await log.append([event("prd.started"), event("story.started", story_id="US-1")])
    data = {"for": "human", "reason": "permission Bash ls"}
    await log.append([Event("agent.waiting", data, id="w", prd_id="PRD-1", session_id="S1", source="claude", at=5)])
    before = await log.entities("session/")
    await log.rebuild()
    assert await log.entities("session/") == before
    assert [session["waiting"]["story_id"] for session in before.values()] == ["US-1"]

"""The plan of a wrapped run, followed through everything that agents do to its file."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import pytest

from claude_loop.adopt.git_watch import GitWatch
from claude_loop.adopt.prd_watch import PrdWatch
from claude_loop.clock import ManualClock
from tests.unit.adopt.world import CLOCK, TIDY, Git


def watch_of(world, debounce=0.0, clock=CLOCK):
    commits = GitWatch(world.hub, world.wrapped(), clock, TIDY)
    return PrdWatch(world.hub, world.wrapped(), clock, TIDY, commits.untold, debounce=debounce)


def plan(**passes: bool) -> dict[str, Any]:
    stories = [
        {"id": name.replace("_", "-"), "title": f"Story {name}", "priority": n, "passes": done}
        for n, (name, done) in enumerate(passes.items(), 1)
    ]
    return {"project": "Shop", "branchName": "ralph/cart", "userStories": stories}


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    now = CLOCK.now_us() * 1000  # the file system's own clock may be some milliseconds behind
    os.utime(path, ns=(now, now))


async def told(world):
    return [
        (event.type, event.story_id) if event.story_id else (event.type, [s["passes"] for s in event.data["stories"]])
        for event in await world.told("prd.json")
    ]


async def iteration(world, number, at=None):
    begun = ago(0)
    await world.publish("iteration.started", {"iteration": number}, source="output", run_id="R1", at=at or begun)
    while ago(0) == begun:  # one that begins in the millisecond in which the plan is written counts as after it
        await asyncio.sleep(0)


async def attempts(world):
    """Of each story that was begun: how often, and whether it was done no earlier than that."""
    stories = (await world.hub.log.entities("story/")).values()
    for story in stories:
        assert story["finished_at"] is None or story["finished_at"] >= story["started_at"]
    return {story["story_id"]: story["attempt"] for story in stories if story["attempt"]}


def ago(seconds):
    return CLOCK.now_us() // 1000 - seconds * 1000


async def test_a_ralph_loop_is_told_story_by_story(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False, US_2=False))
    await world.begin()
    watch = watch_of(world)
    for number, (one, two) in enumerate([(False, False), (True, False), (True, False), (True, True)], 1):
        await watch.look()
        await iteration(world, number)
        await watch.look()
        write(file, plan(US_1=one, US_2=two))
        await watch.look()
    assert await told(world) == [
        ("plan.updated", [False, False]),
        ("story.started", "US-1"),  # and the first iteration is its first attempt
        ("story.started", "US-1"),  # the second iteration: it did not pass in the first
        ("plan.updated", [True, False]),
        ("story.completed", "US-1"),
        ("story.started", "US-2"),
        ("story.started", "US-2"),
        ("plan.updated", [True, True]),
        ("story.completed", "US-2"),
    ]
    events = await world.told("prd.json")
    assert events[0].data == {
        "title": "Shop",
        "stories": [
            {"story_id": f"US-{n}", "title": f"Story US_{n}", "priority": n, "depends_on": [], "passes": False}
            for n in (1, 2)
        ],
    }
    assert events[1].data == {"story_id": "US-1", "status": "in_progress", "title": "Story US_1"}
    assert {event.run_id for event in events} == {"R1"}
    stories = {s["story_id"]: s for s in (await world.hub.log.entities("story/")).values()}
    assert (stories["US-1"]["attempt"], stories["US-2"]["attempt"]) == (2, 2)
    assert {story["state"] for story in stories.values()} == {"done·claimed"}


async def test_a_restart_tells_nothing_twice_and_goes_on(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False, US_2=False))
    await world.begin()
    await watch_of(world).look()
    await iteration(world, 1)
    for _ in range(2):
        await watch_of(world).look()
    write(file, plan(US_1=True, US_2=False))
    for _ in range(2):
        await watch_of(world).look()
    assert await told(world) == [
        ("plan.updated", [False, False]),
        ("story.started", "US-1"),
        ("plan.updated", [True, False]),
        ("story.completed", "US-1"),
        ("story.started", "US-2"),
    ]
    first, completed, second = await world.told("prd.json", "story.started", "story.completed")
    assert "after" not in first.data
    assert second.data["after"] == completed.at


async def test_an_iteration_that_began_while_a_start_was_told_is_still_the_one_it_was_meant_for_after_a_restart(world):
    write(world.cwd / "prd.json", plan(US_1=False))
    await world.begin()
    watch = watch_of(world)
    look_at = watch._look_at

    async def unheard(watched):
        await iteration(world, 1)
        await look_at(watched)

    watch._look_at = unheard
    await watch.look()
    await watch_of(world).look()
    assert len(await world.told("prd.json", "story.started")) == 1
    await iteration(world, 2)
    await watch_of(world).look()
    first, second = await world.told("prd.json", "story.started")
    assert ("iteration" in first.data, second.data["iteration"]) == (False, 2)


async def test_what_passed_before_the_daemon_looked_is_told_if_the_run_began_without_it(world):
    write(world.cwd / "prd.json", plan(US_1=True, US_2=True))
    await world.begin(passing=["US-2"], started_at=CLOCK.now_us() - 10_000_000)
    await watch_of(world).look()
    assert await told(world) == [
        ("plan.updated", [True, True]),
        ("story.started", "US-1"),
        ("story.completed", "US-1"),
    ]


async def test_a_story_that_passes_before_anybody_looked_was_begun_with_the_run(world):
    file = world.cwd / "prd.json"
    await world.begin(passing=["US-3"], started_at=CLOCK.now_us() - 10_000_000)
    write(file, plan(US_1=True, US_2=False, US_3=True))
    os.utime(file, (ago(4) / 1000, ago(4) / 1000))
    await watch_of(world).look()
    assert await told(world) == [
        ("plan.updated", [True, False, True]),
        ("story.started", "US-1"),
        ("story.completed", "US-1"),
        ("story.started", "US-2"),
    ]
    _, first, done, second = await world.told("prd.json")
    began_at = json.loads((world.runs / "R1/run.json").read_text())["started_at"] // 1000
    assert (first.at, first.data["until"]) == (began_at, done.at)
    assert began_at < done.at == second.at == second.data["after"] < ago(3)
    await watch_of(world).look()
    assert await attempts(world) == {"US-1": 1, "US-2": 1}


@pytest.mark.parametrize("order", [(1, 2, "look"), (1, "look", 2), ("look", 1, 2)])
@pytest.mark.parametrize("restarts", [False, True])
async def test_an_iteration_before_a_story_passed_was_of_that_story_whenever_it_is_heard(world, order, restarts):
    """The first passes in the first iteration, and the second is at work in the second."""
    file = world.cwd / "prd.json"
    await world.begin(passing=[], started_at=CLOCK.now_us() - 10_000_000)
    write(file, plan(US_1=True, US_2=False))
    os.utime(file, (ago(6) / 1000, ago(6) / 1000))
    watch = watch_of(world)
    for step in order:
        if step == "look":
            await watch.look()
        else:
            await iteration(world, step, at=ago({1: 9, 2: 5}[step]))
        watch = watch_of(world) if restarts else watch
    await watch.look()
    assert await attempts(world) == {"US-1": 1, "US-2": 1}
    await iteration(world, 3)
    await watch.look()
    assert await attempts(world) == {"US-1": 1, "US-2": 2}


async def test_each_iteration_without_a_pass_is_an_attempt_though_nobody_was_there(world):
    write(world.cwd / "prd.json", plan(US_1=False))
    await world.begin(passing=[], started_at=CLOCK.now_us() - 10_000_000)
    for number in (1, 2, 3):
        await iteration(world, number, at=ago(10 - number))
    for _ in range(2):
        await watch_of(world).look()
    starts = await world.told("prd.json", "story.started")
    assert [start.data["iteration"] for start in starts] == [1, 2, 3]
    assert [start.at for start in starts] == [e.at for e in await world.told("output", "iteration.started")]


async def test_a_loop_that_is_run_twice_over_the_same_plan_has_an_attempt_for_each_iteration(world):
    write(world.cwd / "prd.json", plan(US_1=False))
    await world.begin(passing=[], started_at=CLOCK.now_us() - 10_000_000)
    watch = watch_of(world)
    for n, number in enumerate((1, 2, 3, 1, 2, 3)):
        await iteration(world, number, at=ago(9 - n))
        await watch.look()
    assert await attempts(world) == {"US-1": 6}
    await watch_of(world).look()
    assert await attempts(world) == {"US-1": 6}


@pytest.mark.parametrize("before", [{}, {"US_1": True}])
@pytest.mark.parametrize("restarts", [False, True])
async def test_iterations_from_before_a_plan_turned_up_or_was_extended_are_of_no_story_of_it(world, before, restarts):
    file = world.cwd / "prd.json"
    await world.begin(started_at=CLOCK.now_us() - 100_000_000)
    watch = watch_of(world)

    async def look(stories, seconds):
        if stories:
            write(file, plan(**stories))
            os.utime(file, (ago(seconds) / 1000, ago(seconds) / 1000))
        await watch.look()

    await look(before, 90)
    for number, seconds in ((1, 80), (2, 70)):
        await iteration(world, number, at=ago(seconds))
    await look(before | {"US_2": False}, 60)
    # The first iteration from then on is what its beginning was meant for.
    for number, told in ((None, 1), (3, 1), (4, 2)):
        if number is not None:
            await iteration(world, number, at=ago(60 - 10 * (number - 2)))
        watch = watch_of(world) if restarts else watch
        await watch.look()
        assert (await attempts(world)) == {"US-2": told}


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_loop_that_takes_another_story_than_the_next_has_not_tried_the_next_twice(world, restarts):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False, US_2=False))
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    await iteration(world, 1)
    await watch.look()
    write(file, plan(US_1=False, US_2=True))
    watch = watch_of(world) if restarts else watch
    await watch.look()
    watch = watch_of(world) if restarts else watch
    await iteration(world, 2)
    await watch.look()
    assert await attempts(world) == {"US-1": 1, "US-2": 1}


async def test_a_story_that_is_added_when_all_is_done_begins_then(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=True))
    await world.begin(passing=["US-1"], started_at=CLOCK.now_us() - 10_000_000)
    await watch_of(world).look()
    write(file, plan(US_1=True, US_2=False))
    await watch_of(world).look()
    (start,) = await world.told("prd.json", "story.started")
    assert start.at > ago(5)


async def test_what_was_done_without_a_daemon_is_told_when_all_is_over_and_leaves_the_run_finished(world):
    """Its tests and its commit were heard of before its beginning, and prove it all the same."""
    file = world.cwd / "prd.json"
    await world.begin(passing=["US-2"], started_at=CLOCK.now_us() - 10_000_000)
    write(file, plan(US_1=True, US_2=True))
    ids = {"run_id": "R1", "story_id": "US-1", "source": "git"}
    await world.publish("test.run", {"passed": 3, "failed": 0}, **ids)
    await world.publish("commit.created", {"commit_hash": "abc1234"}, **ids)
    await world.end()
    await watch_of(world).look()
    documents = await world.hub.log.entities("")
    (run,) = (document for key, document in documents.items() if key.startswith("run/"))
    story = documents["story/shop/PRD-1/R1/US-1"]
    assert (run["finished_at"] is None, run["running"]) == (False, [])
    assert (story["state"], story["attempt"], story["test_runs"][0]["attempt"]) == ("done·verified", 1, 1)
    assert documents["story/shop/PRD-1/R1/US-2"]["why"] == ["it was done before this run began"]
    assert await attempts(world) == {"US-1": 1}


async def test_of_several_that_passed_while_nobody_looked_each_was_done_with_its_last_commit(world):
    file = world.cwd / "prd.json"
    await world.begin(passing=[], started_at=CLOCK.now_us() - 60_000_000)
    write(file, plan(US_1=True, US_2=True, US_3=True, US_4=False))
    os.utime(file, (ago(5) / 1000, ago(5) / 1000))
    made = {"US-3": ago(40), "US-1": ago(20)}
    for story, at in made.items():
        ids = {"run_id": "R1", "story_id": story, "source": "git", "at": at}
        await world.publish("test.run", {"passed": 1, "failed": 0}, **ids)
        await world.publish("commit.created", {"commit_hash": f"{at:x}"[-7:]}, **ids)
    await watch_of(world).look()
    began_at = json.loads((world.runs / "R1/run.json").read_text())["started_at"] // 1000
    passed_at = round(file.stat().st_mtime * 1000)
    spans = {
        story["story_id"]: (story["started_at"], story["finished_at"])
        for story in (await world.hub.log.entities("story/")).values()
    }
    assert spans == {
        "US-3": (began_at, made["US-3"]),
        "US-1": (made["US-3"], made["US-1"]),
        "US-2": (made["US-1"], passed_at),
        "US-4": (passed_at, None),
    }
    stories = (await world.hub.log.entities("story/")).values()
    assert {s["story_id"]: s["why"] for s in stories if s["story_id"] != "US-4"} == {
        "US-3": [],
        "US-1": [],
        "US-2": ["no test run", "no commit"],
    }
    await watch_of(world).look()
    assert await attempts(world) == dict.fromkeys(spans, 1)


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_commit_that_only_git_knows_says_when_its_story_was_done(world, is_over):
    """The daemon finds the commits and the plan at once, and lets the commits wait."""
    git, file = Git(world.cwd), world.cwd / "prd.json"
    git.init()
    await world.begin(passing=[], started_at=CLOCK.now_us() - 60_000_000)
    write(file, plan(US_1=True, US_2=True))
    os.utime(file, (ago(5) / 1000, ago(5) / 1000))
    made_at = ago(40) // 1000
    git.commit("feat: [US-2] - Total", at=made_at)
    git.commit("US-1 and that is all", at=ago(20) / 1000)
    if is_over:
        await world.end()
    watch = watch_of(world)
    await watch.look()
    assert await world.told("git") == []
    done = await world.told("prd.json", "story.completed")
    passed_at = round(file.stat().st_mtime * 1000)
    assert [(event.story_id, event.at) for event in done] == [("US-2", made_at * 1000), ("US-1", passed_at)]


async def test_of_several_that_passed_in_one_span_it_is_not_known_how_long_each_took(world):
    """Its estimate would be that of all of them for each that is left."""
    file = world.cwd / "prd.json"
    await world.begin(passing=[], started_at=CLOCK.now_us() - 7200_000_000)
    write(file, plan(US_1=True, US_2=True, US_3=True, US_4=True, US_5=False))
    made_at = ago(3600)
    await world.publish("commit.created", {"commit_hash": "abc1234"}, run_id="R1", story_id="US-1", at=made_at)
    await watch_of(world).look()
    (run,) = (await world.hub.log.entities("run/")).values()
    stories = {s["story_id"]: s for s in (await world.hub.log.entities("story/")).values()}
    first = made_at - json.loads((world.runs / "R1/run.json").read_text())["started_at"] // 1000
    assert (run["story_times_ms"], run["estimate"]) == ([first], None)
    assert [stories[f"US-{n}"]["worked_ms"] for n in (1, 2, 3, 4)] == [first, 0, 0, 0]
    done = await world.told("prd.json", "story.completed")
    assert [event.data.get("together") for event in done] == [None, 3, 3, 3]


async def test_what_the_command_has_told_of_its_plan_is_waited_for_and_not_told_again(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False))
    await world.begin(passing=[])
    watch = watch_of(world)
    await watch.look()
    assert await told(world) == []
    stories = [{"story_id": "US-1", "title": "Story US_1", "priority": 1, "depends_on": [], "passes": False}]
    await world.publish("plan.updated", {"title": "Shop", "stories": stories}, source="prd.json", run_id="R1")
    await watch.look()
    assert await told(world) == [("plan.updated", [False]), ("story.started", "US-1")]
    write(file, plan(US_1=True))
    await watch.look()
    assert (await told(world))[2:] == [("plan.updated", [True]), ("story.completed", "US-1")]


async def test_what_was_true_before_and_is_true_again_is_news(world):
    file = world.cwd / "prd.json"
    await world.begin()
    watch = watch_of(world)
    for done in (True, False, True):
        write(file, plan(US_1=done))
        await watch.look()
    assert await told(world) == [
        ("plan.updated", [True]),  # it passed before anybody looked: nobody has completed it now
        ("plan.updated", [False]),
        ("story.started", "US-1"),
        ("plan.updated", [True]),
        ("story.completed", "US-1"),
    ]


async def test_a_script_that_tells_its_stories_itself_is_left_alone(world):
    write(world.cwd / "prd.json", plan(US_1=False))
    await world.begin()
    await world.publish("story.started", story_id="US-1", run_id="R1")
    watch = watch_of(world)
    await watch.look()
    write(world.cwd / "prd.json", plan(US_1=True))
    await watch.look()
    assert await told(world) == [("plan.updated", [False]), ("plan.updated", [True])]


async def test_a_script_that_begins_to_tell_is_heard(world):
    write(world.cwd / "prd.json", plan(US_1=False))
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    await world.publish("story.started", story_id="US-1", run_id="R1")
    write(world.cwd / "prd.json", plan(US_1=True))
    await iteration(world, 2)
    await watch.look()
    assert await told(world) == [("plan.updated", [False]), ("story.started", "US-1"), ("plan.updated", [True])]


async def test_the_last_whole_plan_holds_through_everything(world, tmp_path):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False))
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    whole = json.dumps(plan(US_1=True))
    for text in (whole[:30], "", "null", "[1, 2]", '{"userStories": {}}', "\x00\xff"):
        file.write_text(text)
        await watch.look()
    file.unlink()
    await watch.look()
    file.mkdir()
    await watch.look()
    file.rmdir()
    os.mkfifo(file)
    await watch.look()
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    await watch.look()
    file.unlink()
    assert [type_ for type_, _ in await told(world)] == ["plan.updated", "story.started"]
    (tmp_path / "elsewhere.json").write_text(whole)
    file.symlink_to(tmp_path / "elsewhere.json")
    await watch.look()
    assert await told(world) == [
        ("plan.updated", [False]), ("story.started", "US-1"), ("plan.updated", [True]), ("story.completed", "US-1"),
    ]  # fmt: skip


async def test_a_file_is_read_once_it_has_rested(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False))
    await world.begin()
    clock = ManualClock(CLOCK.now_us())
    watch = watch_of(world, 30, clock)
    await watch.look()
    write(file, plan(US_1=False, US_2=False))
    await watch.look()
    assert await told(world) == []
    clock.advance(31)
    await watch.look()
    assert await told(world) == [("plan.updated", [False, False]), ("story.started", "US-1")]


async def test_circles_and_dependencies_decide_what_is_next(world):
    stories = [
        {"id": "A", "priority": 1, "dependencies": ["B"]},
        {"id": "B", "priority": 2, "dependencies": ["C"]},
        {"id": "C", "priority": 3, "dependencies": ["B"]},
    ]
    write(world.cwd / "prd.json", {"userStories": stories})
    await world.begin()
    await watch_of(world).look()
    first, started = await world.told("prd.json")
    assert [sorted(cycle) for cycle in first.data["cycles"]] == [["B", "C"]]
    assert started.story_id == "B"


async def test_at_the_end_the_file_is_read_without_waiting_and_then_left(world):
    file = world.cwd / "prd.json"
    write(file, plan(US_1=False))
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    slow = watch_of(world, debounce=100)
    write(file, plan(US_1=True))
    await world.end()
    await slow.look()
    assert (await told(world))[-1] == ("story.completed", "US-1")
    write(file, plan(US_1=False))
    os.utime(file, (time.time() + 10, time.time() + 10))
    await watch_of(world).look()
    assert (await told(world))[-1] == ("story.completed", "US-1")


@pytest.mark.parametrize(
    ("place", "note"),
    [
        ("prd.json", {}),
        ("plans/my.json", {"prd_file": "plans/my.json"}),
        ("scripts/ralph/prd.json", {}),
        ("tools/prd.json", {"script": "tools/loop.sh"}),
        ("prds/active/PRD-9/prd.json", {}),
    ],
)
async def test_the_file_is_found_where_the_tools_keep_it(world, place, note):
    (world.cwd / "tools").mkdir()
    (world.cwd / "tools/loop.sh").write_text("")
    write(world.cwd / place, plan(US_1=False))
    await world.begin(**note)
    await watch_of(world).look()
    assert len(await told(world)) == 2


async def test_of_several_active_plans_none_is_taken(world):
    for name in ("A", "B"):
        write(world.cwd / f"prds/active/{name}/prd.json", plan(US_1=False))
    await world.begin()
    await watch_of(world).look()
    assert await told(world) == []


async def test_a_large_plan_with_secrets_fits_into_an_event(world):
    secret = "sk-ant-api03-" + "A1b2C3d4" * 6
    stories = [{"id": f"US-{n}", "title": f"{secret} " + "long " * 50, "priority": n} for n in range(600)]
    write(world.cwd / "prd.json", {"userStories": stories})
    await world.begin()
    await watch_of(world).look()
    first, started = await world.told("prd.json")
    assert len(first.data["stories"]) == 500
    assert "truncated" not in first.data
    assert "A1b2C3d4" not in first.json + started.json
    assert len(first.json) < 64 * 1024

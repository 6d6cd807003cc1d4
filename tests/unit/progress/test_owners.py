"""Whose end is noticed, and whose is not: real processes, watched with a clock of the test's own."""

import asyncio
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import StorageFailed
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.progress.keys import run_key
from claude_loop.progress.owners import MISSES, OwnerWatch, Process, ProcessTable
from claude_loop.progress.projection import ProgressProjection
from tests.support import PATIENCE, eventually, until

pytestmark = pytest.mark.requires("linux")  # process start times come from /proc

PROBATION = 5.0


def start_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def owner_of(pid, **different):
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id, **different}


@pytest.fixture
def process():
    """A process of our own that lives until it is killed."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


class World:
    """A log with the read model, and a watch over its owners."""

    def __init__(self):
        self.clock = ManualClock()
        self.log = MemoryEventLog(ProgressProjection(), self.clock)
        self.hub = Hub(self.log, EventBus())
        self.tasks = []
        self.watch_anew()

    def watch_anew(self, **options):
        """As a daemon that has just started."""
        for task in self.tasks:
            task.cancel()
        options = {"probation": PROBATION, "poll": 0.001, **options}
        self.owners = OwnerWatch(self.hub, self.clock, **options)
        self.tasks = [asyncio.ensure_future(self.owners.follow())]

    async def say(self, type_, run_id="run-1", *, project="shop", prd_id="PRD-001", **data):
        number = self.log.state.head + 1
        event = Event(type_, data, id=f"id-{number}", project=project, prd_id=prd_id, run_id=run_id, source="test")
        event.at = self.clock.now_us() // 1000
        await self.hub.publish([event])
        return event

    async def watching(self, count):
        await eventually(lambda: len(self.owners) == count, what=f"{count} watched")

    async def look(self, times=1, after=0.0):
        for _ in range(times):
            self.clock.advance(after)
            await self.owners.look()

    async def run(self, run_id="run-1", project="shop", prd_id="PRD-001"):
        key = run_key(project, prd_id, run_id)
        return (await self.log.entities(key))[key]

    async def state(self, **ids):
        return (await self.run(**ids))["state"]

    async def reports(self):
        page = await self.log.read(0, 1000)
        return [event.type for event in page.events if event.type.startswith("system.")]

    async def owned(self, process, **ids):
        """A run of ``process`` that has outlived its probation."""
        await self.say("prd.started", status="running", owner=owner_of(process.pid), **ids)
        await self.watching(1)
        await self.look(after=PROBATION)
        assert await self.reports() == ["system.run_owned"]


@pytest.fixture
async def world():
    world = World()
    await world.hub.start()
    yield world
    for task in world.tasks:
        task.cancel()
    await world.hub.stop()


def kill(process):
    process.kill()
    process.wait()


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_process_lives_until_it_ends(process):
    table = ProcessTable()
    found = Process.parse(owner_of(process.pid))
    assert table.can_judge
    assert table.lives(found)
    kill(process)
    assert not table.lives(found)


def test_a_zombie_has_ended(process):
    found = Process.parse(owner_of(process.pid))
    process.kill()
    until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert not ProcessTable().lives(found)


def test_a_process_that_cannot_be_looked_at_is_not_declared_dead(process):
    table, found = ProcessTable(), Process.parse(owner_of(process.pid))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        kill(process)
        assert table.lives(found)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not table.lives(found)


@pytest.mark.parametrize(
    "different",
    [{"start_ticks": 1}, {"boot_id": "another"}, {"pid_namespace": "pid:[1]"}],
    ids=["the pid was given to another", "another boot, or host", "another container"],
)
def test_another_process_of_the_same_pid_is_another(process, different):
    assert not ProcessTable().lives(Process.parse(owner_of(process.pid, **different)))


def test_its_own_namespace_may_be_named(process):
    namespace = os.readlink("/proc/self/ns/pid")
    assert ProcessTable().lives(Process.parse(owner_of(process.pid, pid_namespace=namespace)))


def test_names_of_commands_may_hold_anything(tmp_path, process):
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    (tmp_path / "42").mkdir()
    after = " ".join(["S", *map(str, range(4, 22)), "777"])
    (tmp_path / "42/stat").write_bytes(b"42 (a) Z 1) \xff\n) " + after.encode() + b" 0 0\n")
    table = ProcessTable(tmp_path)
    assert table.lives(Process(42, 777, "boot"))
    assert not table.lives(Process(42, 778, "boot"))
    assert not table.lives(Process(43, 777, "boot"))


@pytest.mark.parametrize(
    "owner",
    [
        None,
        "me",
        [],
        {},
        {"pid": 1},
        {"pid": 0, "start_ticks": 1, "boot_id": "b"},
        {"pid": -1, "start_ticks": 1, "boot_id": "b"},
        {"pid": True, "start_ticks": 1, "boot_id": "b"},
        {"pid": "1", "start_ticks": 1, "boot_id": "b"},
        {"pid": 1, "start_ticks": None, "boot_id": "b"},
        {"pid": 1, "start_ticks": 1.5, "boot_id": "b"},
        {"pid": 1, "start_ticks": 1, "boot_id": ""},
        {"pid": 1, "start_ticks": 1, "boot_id": 7},
    ],
)
async def test_an_owner_that_makes_no_sense_is_nobody(world, owner):
    assert Process.parse(owner) is None
    await world.say("prd.started", status="running", owner=owner)
    await world.say("run.started", run_id="run-2", owner=owner_of(os.getpid()))
    await world.watching(1)


# -- runs --------------------------------------------------------------------------------------------------------------


async def test_a_loop_that_is_killed_has_vanished(world, process):
    await world.owned(process)
    await world.look(3, after=1)
    assert await world.state() == "running"
    kill(process)
    await world.look(MISSES - 1, after=1)
    assert await world.state() == "running"
    await world.look(after=1)
    assert await world.state() == "vanished"
    assert await world.reports() == ["system.run_owned", "system.run_vanished"]
    assert len(world.owners) == 0


async def test_a_report_says_whose_run_it_is_and_who_says_so(world, process):
    await world.owned(process)
    kill(process)
    await world.look(MISSES)
    for event in (await world.log.read(1, 10)).events:
        assert (event.project, event.prd_id, event.run_id) == ("shop", "PRD-001", "run-1")
        assert (event.source, event.data) == ("daemon", {"pid": process.pid})
        assert event.at == world.clock.now_us() // 1000


async def test_a_one_shot_emitter_never_owns_its_run(world, process):
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.watching(1)
    await world.look(4, after=1)
    kill(process)
    await world.look(10, after=1)
    assert (await world.state(), await world.reports(), len(world.owners)) == ("running", [], 0)


async def test_the_probation_is_judged_by_the_clock_and_not_by_the_number_of_looks(world, process):
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.watching(1)
    await world.look(20)
    assert await world.reports() == []
    await world.look(after=PROBATION)
    assert await world.reports() == ["system.run_owned"]


@pytest.mark.parametrize("ending", ["prd.completed", "run.completed"])
async def test_a_loop_that_finished_may_end(world, process, ending):
    await world.owned(process)
    await world.say(ending, success=True, status="completed")
    kill(process)
    await world.look(MISSES + 1, after=1)
    assert await world.state() == "done·claimed"
    assert await world.reports() == ["system.run_owned"]
    assert len(world.owners) == 0


async def test_last_words_that_arrive_late_are_waited_for(world, process):
    """What a process emitted last may still be in the spool when it is found gone."""
    await world.owned(process)
    kill(process)
    await world.look(MISSES - 1)
    await world.say("prd.completed", success=True, status="completed")
    await world.look(MISSES)
    assert await world.reports() == ["system.run_owned"]


async def test_a_run_that_was_finished_and_begun_again_is_watched_on(world, process):
    await world.owned(process)
    await world.say("prd.completed", success=False, status="failed")
    await world.look(after=1)
    await world.say("story.started", status="in_progress", story_id="US-001")
    kill(process)
    await world.look(MISSES, after=1)
    assert await world.state() == "vanished"


async def test_any_later_event_clears_it(world, process):
    await world.owned(process)
    kill(process)
    await world.look(MISSES)
    await world.say("log.message", level="info", message="from a child that lived on")
    assert await world.state() == "running"


async def test_a_run_that_was_superseded_stays_as_it_was(world, process):
    await world.owned(process)
    await world.say("prd.started", run_id="run-2", status="running", owner=owner_of(process.pid))
    await world.watching(2)
    await world.look(after=PROBATION)
    kill(process)
    await world.look(MISSES)
    assert [await world.state(run_id=run_id) for run_id in ("run-1", "run-2")] == ["running", "vanished"]


async def test_two_halves_of_one_beginning_have_the_owner_that_was_named_last(world, process):
    """The wrapper opens the run, the script inside joins it; the script is the loop."""
    with subprocess.Popen(["sleep", "1000"]) as wrapper:
        await world.say("run.started", owner=owner_of(wrapper.pid))
        await world.watching(1)
        await world.look(after=PROBATION)
        await world.say("prd.started", status="running", owner=owner_of(process.pid))
        await eventually(lambda: [w.process.pid for w in world.owners._watched.values()] == [process.pid])
        kill(wrapper)
    await world.look(MISSES, after=PROBATION)
    assert await world.state() == "running"
    kill(process)
    await world.look(MISSES)
    assert await world.state() == "vanished"


async def test_the_probation_lasts_no_longer_where_the_clock_was_set_back(world, process):
    await world.say("log.message", level="info", message="by a clock that is ahead")
    world.clock.step_wall(-7200)
    await world.owned(process, run_id="run-2")
    kill(process)
    await world.look(times=MISSES)
    assert await world.reports() == ["system.run_owned", "system.run_vanished"]


async def test_the_same_owner_named_again_is_not_put_on_probation_again(world, process):
    await world.owned(process)
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.say("prd.started", run_id="other", prd_id="PRD-002", owner=owner_of(process.pid))
    await world.watching(2)
    await world.look(after=PROBATION)
    assert await world.reports() == ["system.run_owned"] * 2


async def test_an_owner_named_while_the_end_of_the_one_before_is_reported_is_watched(world, process):
    with subprocess.Popen(["sleep", "1000"]) as before:
        await world.owned(before)
        kill(before)
    await world.look(MISSES - 1)
    publish = world.hub.publish

    async def late(events):
        world.hub.publish = publish
        await world.say("prd.started", status="running", owner=owner_of(process.pid))
        await eventually(lambda: [w.process.pid for w in world.owners._watched.values()] == [process.pid])
        return await publish(events)

    world.hub.publish = late
    await world.look()
    assert len(world.owners) == 1


async def test_looks_that_found_nobody_count_only_in_a_row(world, process):
    almost = [*[False] * (MISSES - 1), True]
    answers = iter([True, *almost, *almost])

    class Doubtful(ProcessTable):
        def lives(self, process):
            return next(answers)

    world.watch_anew(processes=Doubtful())
    await world.owned(process)
    await world.look(2 * len(almost))
    assert await world.reports() == ["system.run_owned"]


async def test_runs_of_one_id_in_two_projects_are_two(world, process):
    await world.owned(process, project="shop")
    with subprocess.Popen(["sleep", "1000"]) as other:
        await world.say("prd.started", status="running", owner=owner_of(other.pid), project="bank")
        await world.watching(2)
        await world.look(after=PROBATION)
        kill(process)
        await world.look(MISSES)
        assert [await world.state(project=project) for project in ("shop", "bank")] == ["vanished", "running"]
        kill(other)


async def test_a_shell_with_many_runs_is_looked_at_once(world, process):
    class Counting(ProcessTable):
        asked = 0

        def lives(self, process):
            self.asked += 1
            return super().lives(process)

    table = Counting()
    world.watch_anew(processes=table)
    for number in range(50):
        await world.say("prd.started", prd_id=f"PRD-{number}", status="running", owner=owner_of(process.pid))
    await world.watching(50)
    await world.look(after=PROBATION)
    assert table.asked == 1
    assert await world.reports() == ["system.run_owned"] * 50


# -- the daemon's own troubles -----------------------------------------------------------------------------------------


async def test_an_owner_that_ends_while_the_daemon_is_down_is_noticed_when_it_is_back(world, process):
    await world.owned(process)
    kill(process)
    world.watch_anew()
    await world.watching(1)
    await world.look(MISSES, after=1)
    assert await world.state() == "vanished"
    world.watch_anew()
    await asyncio.sleep(0.02)
    assert len(world.owners) == 0
    assert await world.reports() == ["system.run_owned", "system.run_vanished"]


async def test_a_restart_during_the_probation_does_not_end_it(world, process):
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.watching(1)
    await world.look(after=3)
    world.watch_anew()
    await world.watching(1)
    await world.look(after=1)
    assert await world.reports() == []
    await world.look(after=1)
    assert await world.reports() == ["system.run_owned"]


async def test_finished_vanished_and_superseded_runs_are_not_taken_up_after_a_restart(world, process):
    owner = owner_of(process.pid)
    await world.say("prd.started", run_id="superseded", status="running", owner=owner)
    await world.say("prd.started", run_id="finished", status="running", owner=owner)
    await world.say("prd.completed", run_id="finished", success=True, status="completed")
    await world.say("prd.started", run_id="gone", prd_id="PRD-002", status="running", owner=owner)
    await world.say("system.run_vanished", run_id="gone", prd_id="PRD-002", pid=process.pid)
    await world.say("prd.started", run_id="open", prd_id="PRD-003", status="running", owner=owner)
    world.watch_anew()
    await world.watching(1)
    assert [watched.run_id for watched in world.owners._watched.values()] == ["open"]


async def test_an_owner_from_before_the_machine_was_restarted_is_gone(world):
    await world.say("prd.started", status="running", owner={"pid": os.getpid(), "start_ticks": 1, "boot_id": "before"})
    await world.say("system.run_owned", pid=os.getpid())
    world.watch_anew()
    await world.watching(1)
    await world.look(MISSES)
    assert await world.state() == "vanished"


async def test_an_emitter_of_another_host_is_never_judged(world):
    await world.say("prd.started", status="running", owner=owner_of(os.getpid(), boot_id="another host"))
    await world.watching(1)
    await world.look(MISSES + 1, after=PROBATION)
    assert (await world.reports(), len(world.owners)) == ([], 0)


async def test_where_there_is_no_proc_nobody_is_watched(world, tmp_path, process):
    table = ProcessTable(tmp_path)
    assert not table.can_judge
    world.watch_anew(processes=table)
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    async with asyncio.timeout(PATIENCE):
        await world.tasks[0]
    assert len(world.owners) == 0


async def test_a_log_that_cannot_be_written_or_read_for_a_while_changes_nothing(world, process):
    publish, entities = world.hub.publish, world.log.entities
    failures = []

    async def fail(*_):
        failures.append("failed")
        raise StorageFailed("no disk today")

    world.log.entities = fail
    world.watch_anew()
    await eventually(lambda: failures)
    world.log.entities = entities
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.watching(1)
    world.tasks.append(asyncio.ensure_future(world.owners.watch()))
    world.hub.publish, failures[:] = fail, []
    world.clock.advance(PROBATION)
    await eventually(lambda: len(failures) >= 2)
    world.hub.publish = publish
    await eventually(world.reports)
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.hub.publish, failures[:] = fail, []
    await eventually(lambda: len(failures) >= 2)
    world.hub.publish = publish

    async def vanished():
        return await world.state() == "vanished"

    await eventually(vanished)
    assert await world.reports() == ["system.run_owned", "system.run_vanished"]
    assert not any(task.done() for task in world.tasks)


async def test_the_timer_rests_while_there_is_nobody_to_watch(world, process):
    looks = 0
    look = world.owners.look

    async def counted():
        nonlocal looks
        looks += 1
        await look()

    world.owners.look = counted
    world.tasks.append(asyncio.ensure_future(world.owners.watch()))
    await asyncio.sleep(0.02)
    assert looks == 0
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await eventually(lambda: looks >= 3)
    kill(process)
    await world.watching(0)
    seen = looks
    await asyncio.sleep(0.02)
    assert looks == seen


async def test_events_pruned_before_they_were_seen_do_not_hide_a_run(world, process):
    world.tasks[0].cancel()
    owners = world.owners = OwnerWatch(world.hub, world.clock, probation=PROBATION, poll=0.001)
    gate = asyncio.Event()
    entities = world.log.entities

    async def slow(prefix):
        world.log.entities = entities
        found = await entities(prefix)
        await gate.wait()
        return found

    world.log.entities = slow
    world.tasks.append(asyncio.ensure_future(owners.follow()))
    await eventually(lambda: world.log.entities is entities)
    await world.say("prd.started", status="running", owner=owner_of(process.pid))
    await world.say("log.message", level="info", message="more")
    await world.log.prune(0, 1, 10)
    gate.set()
    await world.watching(1)

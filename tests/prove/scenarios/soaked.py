"""One daemon for a long time."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any

import aiohttp

from tests.prove.load import judge
from tests.prove.oracle import Violation
from tests.prove.readers import one_of_each
from tests.prove.scenarios.clients import resident_mb
from tests.prove.stored import read_log
from tests.prove.world import DaemonUnderTest, World, get_json
from tests.support import ROOT, eventually

# A session's ping task sleeps this long before it sees that its client has gone.
_PING_SECONDS = 30.0
# A quiet search index gives its memory back after this long; until then it is in use or not as chance will have it.
_SETTLING_SECONDS = 8.0


async def soak(world: World) -> None:
    """Rounds of clients that come, publish, read and go: memory, tasks, descriptors and threads stay what they were."""
    daemon = world.daemon(quick=True, environ={"CLAUDE_LOOP_RETENTION__EVENTS": "2000"})
    await asyncio.to_thread(daemon.start)
    samples: list[dict[str, float]] = []
    rounds = world.pick(6, 120)
    warm = rounds // 2
    for number in range(1, rounds + 1):
        await _round(world, daemon)
        if number in (warm, rounds):
            await asyncio.sleep(_SETTLING_SECONDS)
        samples.append(await _sample(daemon, patient=world.size == "long" and number in (warm, rounds)))
    assert daemon.stop() == 0
    judge(world, await read_log(daemon.home.database), {}, [])
    before, after = samples[warm - 1], samples[-1]
    for name, slack in (("fds", 2), ("threads", 1), ("tasks", 0), ("mb", 8)):
        if after[name] > before[name] + slack:
            raise Violation(f"{name} grew from {before[name]:.1f} to {after[name]:.1f} in {rounds - warm} rounds")
    world.count(rounds=rounds, **{name: round(figure) for name, figure in after.items()})


async def _round(world: World, daemon: DaemonUnderTest) -> None:
    readers = one_of_each()
    for one in readers:
        one.cursor = None
    tasks = [world.tasks.spawn(one.run(daemon.url), one.transcript.name) for one in readers]
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            events = [{"type": "soak.sent", "prd_id": "SOAK", "data": {"text": "x" * 200}} for _ in range(200)]
            async with http.post(f"{daemon.url}/api/events", json=events) as answer:
                assert answer.status == 200
    environ = daemon.environ | {"PATH": f"{ROOT / 'bin'}:{os.environ['PATH']}"}
    script = "source emit_progress.sh; for n in 1 2 3 4 5; do emit_story_started SOAK US-$n; done; emit_flush 20"
    shell = await asyncio.to_thread(subprocess.run, ["bash", "-c", script], env=environ, check=False)
    assert shell.returncode == 0
    head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
    for one in readers:
        await eventually(lambda one=one: one.transcript.head >= head, 30, f"{one.transcript.name} at {head}")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _sample(daemon: DaemonUnderTest, *, patient: bool) -> dict[str, float]:
    """``patient``: also wait for what a session leaves behind until its next ping would have been due."""

    seen: list[int] = []

    async def gone() -> Any:
        """The clients are gone, the spool is empty, and no task has ended for half a second."""
        status = await get_json(f"{daemon.url}/status")
        places = (daemon.home.spool, daemon.home.leaving)
        quiet = status["clients"] == 0 and not any(os.listdir(place) for place in places)
        seen.append(_tasks(status, every=patient) if quiet else -1)
        await asyncio.sleep(0.05)
        return status if len(seen) > 10 and seen[-1] >= 0 and len(set(seen[-10:])) == 1 else None

    status = await eventually(gone, 30, "the clients gone")
    if patient:
        await asyncio.sleep(_PING_SECONDS)
        status = await eventually(gone, 30, "the clients gone")
    return {
        "fds": len(os.listdir(f"/proc/{daemon.pid}/fd")),
        "threads": len(os.listdir(f"/proc/{daemon.pid}/task")),
        "tasks": _tasks(status, every=patient),
        "mb": resident_mb(daemon.pid),
    }


def _tasks(status: dict[str, Any], *, every: bool) -> int:
    """Background tasks, if not every one: those that do not belong to one client."""
    return sum(count for owner, count in status["tasks"].items() if every or owner not in ("engineio", "sse"))

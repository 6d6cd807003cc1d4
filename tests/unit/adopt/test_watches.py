"""Both watches inside the real daemon, across its restarts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_loop.events import Event
from claude_loop.ids import new_event_id
from tests.live_server import CLOCK, LiveServer
from tests.support import eventually
from tests.unit.adopt.world import Git


@pytest.fixture
async def server(tmp_path):
    async with LiveServer(tmp_path / "home") as server:
        yield server


def begin(home: Path, cwd: Path) -> Event:
    note = {"run_id": "R1", "project": "shop", "prd_id": "cart", "script": str(cwd / "ralph.sh"), "cwd": str(cwd),
            "started_at": CLOCK.now_us()}  # fmt: skip
    (home / "runs/R1").mkdir(mode=0o700)
    (home / "runs/R1/run.json").write_text(json.dumps(note))
    return Event("run.started", {}, id=new_event_id(CLOCK), project="shop", prd_id="cart", run_id="R1", source="run",
                 at=CLOCK.now_us() // 1000)  # fmt: skip


def write_plan(folder: Path, *passes: bool) -> None:
    stories = [{"id": f"US-00{n}", "priority": n, "passes": done} for n, done in enumerate(passes, 1)]
    (folder / "new").write_text(json.dumps({"project": "Shop", "userStories": stories}))
    os.replace(folder / "new", folder / "prd.json")


async def told(server: LiveServer) -> list[tuple[str, str | None]]:
    events = (await server.hub.log.read(0, 100)).events
    return [(event.type, event.story_id) for event in events if event.source in {"git", "prd.json"}]


async def test_a_loop_that_says_nothing_is_told_through_restarts_of_the_daemon(server, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    git = Git(work)
    git.init()
    write_plan(work, False, False)
    await server.hub.publish([begin(tmp_path / "home", work)])

    async def are_told(*expected: tuple[str, str | None]) -> bool:
        return sorted(map(str, await told(server))) == sorted(map(str, expected))

    begun = [("plan.updated", None), ("story.started", "US-001")]
    await eventually(lambda: are_told(*begun))
    git.commit("feat: [US-001] - Add", "a.py")
    begun.append(("commit.created", "US-001"))
    await eventually(lambda: are_told(*begun))
    await server.stop()
    git.commit("feat: [US-002] - not begun", "b.py")
    git.commit("more", "c.py")
    write_plan(work, True, False)
    await server.start()
    begun += [("plan.updated", None), ("story.completed", "US-001"), ("story.started", "US-002")]
    begun += [("commit.created", "US-001"), ("commit.created", "US-001")]
    await eventually(lambda: _length(server, len(begun)))
    kinds = [type_ for type_, _ in await told(server)]
    assert sorted(kinds) == sorted(type_ for type_, _ in begun)
    await server.stop()
    await server.start()
    await server.hub.publish([Event("log.message", {"level": "info", "message": "x"}, id="later", source="x")])
    assert len(await told(server)) == len(begun)


async def _length(server: LiveServer, length: int) -> bool:
    return len(await told(server)) >= length

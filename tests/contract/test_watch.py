"""`watch` on a whole server with a real client: what a page holds is what `GET /api/prds` says, also over a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import socketio

from claude_loop.events import Event
from claude_loop.progress.keys import prd_key, run_key
from claude_loop.progress.patches import apply_patches
from tests.live_server import LiveServer
from tests.support import eventually

TYPES = [
    "prd.started",
    "prd.completed",
    "story.started",
    "story.completed",
    "test.run",
    "commit.created",
    "agent.waiting",
]


class Page:
    """A page as a browser has it: it watches, applies what comes, and watches anew after each connection."""

    def __init__(self, url: str, prd: dict[str, Any] | None = None) -> None:
        self.documents: dict[str, Any] = {}
        self.seq = 0
        self.connections = 0
        self.client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.1)
        self.client.on("connected", self._watch)
        self.client.on("patches", self._apply)
        self._url = url
        self._asked = {} if prd is None else {"prd": prd}

    async def open(self) -> None:
        await self.client.connect(self._url)

    async def _watch(self, _greeting: Any) -> None:
        answer = await self.client.call("watch", self._asked)
        assert answer["ok"], answer
        self.documents, self.seq = answer["documents"], answer["seq"]
        self.connections += 1

    def _apply(self, frame: dict[str, Any]) -> None:
        assert frame["seq"] >= self.seq
        self.seq = frame["seq"]
        apply_patches(self.documents, frame["patches"])

    async def close(self) -> None:
        await self.client.shutdown()


@pytest.fixture
async def server(home: Path) -> AsyncIterator[LiveServer]:
    async with LiveServer(home) as server:
        yield server


async def publish(server: LiveServer, chance: random.Random, count: int, made: list[int]) -> None:
    for _ in range(count):
        made.append(len(made))
        type_ = chance.choice(TYPES)
        event = Event(
            type_,
            {
                "success": chance.random() < 0.5,
                "passed": chance.randint(0, 3),
                "failed": chance.randint(0, 1),
                "for": "human",
            },
            id=f"e{len(made)}",
            project=chance.choice([None, "shop"]),
            prd_id=f"P{chance.randint(1, 3)}",
            story_id=f"US-{chance.randint(1, 4)}" if type_.startswith(("story", "test", "commit")) else None,
            source="test",
            at=1_769_428_800_000 + len(made),
        )
        await server.hub.publish([event])
        if chance.random() < 0.2:
            await asyncio.sleep(0.01)


async def agrees(server: LiveServer, page: Page) -> None:
    """The page's documents are those of the cards; an event after the others tells that everything has come."""
    await eventually(lambda: page.seq == server.hub.state.head)
    cards = (await server.get("/api/prds"))["prds"]
    for card in cards:
        run = page.documents[run_key(card["project"], card["prd_id"], card["run_id"])]
        assert run == {key: card[key] for key in run}
        prd = page.documents[prd_key(card["project"], card["prd_id"])]
        assert prd == {key: card[key] for key in prd if key != "created_at"} | {"created_at": prd["created_at"]}
    assert len(cards) == sum(key.startswith("prd/") for key in page.documents)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_after_any_events_and_a_restart_the_page_is_right(server: LiveServer, seed: int):
    chance, made = random.Random(seed), []
    await publish(server, chance, 30, made)
    pages = [Page(server.url), Page(server.url, {"prd_id": "P1", "project": "shop"})]
    for page in pages:
        await page.open()
    await eventually(lambda: all(page.connections == 1 for page in pages))
    await publish(server, chance, 150, made)
    for page in pages:
        await agrees(server, page)
    await server.stop()
    await server.start()
    await publish(server, chance, 10, made)
    await eventually(lambda: all(page.connections == 2 for page in pages))
    await publish(server, chance, 50, made)
    for page in pages:
        await agrees(server, page)
    stories = await server.hub.log.entities("story/shop/P1/")
    latest = pages[1].documents[prd_key("shop", "P1")]["run_id"]
    held = {key: value for key, value in pages[1].documents.items() if key.startswith("story/")}
    assert held == {key: value for key, value in stories.items() if value["run_id"] == latest}
    for page in pages:
        await page.close()

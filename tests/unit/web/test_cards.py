"""The page puts cards into the daemon's order and groups: `web/src/lib/cards.ts` under Node, against `list_cards`."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import datetime

import pytest

from claude_loop.progress.passing import shown_by_key
from claude_loop.progress.views import GROUPS, Moment, list_cards
from tests.requirements import find_node
from tests.support import ROOT
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, World
from tests.unit.progress.test_views import Reader

DAY_MS = 86_400_000
# What happens to a PRD, one thing after the other; the states that come of it are the reducer's.
SCENES = (
    "prd.started",
    "prd.started → story.started → test.run passed=1 failed=1",
    "prd.started → agent.waiting for=human reason=x",
    "prd.started → agent.waiting for=rate_limit reason=x",
    "prd.started → agent.waiting session=S1 for=human reason=x → agent.waiting session=S2 for=other reason=x",
    "prd.started → control.paused",
    "prd.started → system.run_vanished pid=1",
    "prd.started → prd.completed success=false",
    "prd.started → prd.completed success=true",
    "prd.started → story.started → test.run passed=1 failed=0 → story.completed success=true → prd.completed success=true",
)
NAMES = ("a", "B", "b", "Z", "é", "PRD 1/2", "*", "~!'()")
SCRIPT = """
import { runnerImport } from "vite";
const { module } = await runnerImport("./src/lib/cards.ts", { configFile: false, logLevel: "error" });
let text = ""; for await (const part of process.stdin) text += part;
const lists = JSON.parse(text).map(({ documents, now }) => module.cardsOf(new Map(Object.entries(documents)), now));
console.log(JSON.stringify(lists.map((cards) => cards.map(({ prd, group }) => [prd.project, prd.prd_id, group]))));
"""


def a_world() -> World:
    """PRDs in every state, some put away, some of yesterday, some that began in the same moment."""
    world, dice = World(), random.Random(7)
    # In the evening, so that some hours later it is another day.
    world.now_ms = int(datetime.fromtimestamp(START_MS / 1000).astimezone().replace(hour=20).timestamp() * 1000)
    for day in range(3):
        for number, scene in enumerate([*SCENES, *SCENES]):
            prd, project = f"{dice.choice(NAMES)}{day}{number}", dice.choice([None, "shop", "Blog"])
            before = world.now_ms
            for step in scene.split("→"):
                world.play(f'{step} prd="{prd}"' + (f" project={project}" if project else ""))
            if dice.random() < 0.3:
                world.say("prd.archived", prd=prd, project=project)
            if dice.random() < 0.7:
                world.now_ms = before
        world.now_ms += DAY_MS if day == 0 else STALLED_AFTER_MS // 2
    return world


@pytest.mark.requires("node", "page")
async def test_the_page_shows_cards_in_the_daemons_order():
    world = a_world()
    # Now, and at hours of which most lie beyond midnight: what was done in the evening stays until the morning.
    moments = [Moment(world.now_ms + hours * 3_600_000, STALLED_AFTER_MS) for hours in (0, 5, 11, 13, 23)]
    expected = [
        [[card["project"], card["prd_id"], card["group"]] for card in await list_cards(Reader(world), moment)]
        for moment in moments
    ]
    assert {group for _, _, group in expected[0]} == set(GROUPS)
    told = [
        {
            "documents": {
                key: shown_by_key(key, each, at.now_ms, STALLED_AFTER_MS) for key, each in world.documents.items()
            },
            "now": at.now_ms,
        }
        for at in moments
    ]
    done = subprocess.run(
        [str(find_node()), "--input-type=module", "-e", SCRIPT],
        cwd=ROOT / "web", input=json.dumps(told), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected

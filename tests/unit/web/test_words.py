"""The page's words and marks for what the reducer makes: `web/src/lib/words.ts` and `prd/marks.ts` under Node."""

from __future__ import annotations

import json
import subprocess

import pytest

from claude_loop.events import Event
from tests.requirements import find_node
from tests.support import ROOT
from tests.unit.progress.scenarios import play

SCRIPT = """
import { runnerImport } from "vite";
const load = async (path) => (await runnerImport(path, { configFile: false, logLevel: "error" })).module;
const [{ laneOf }, { stateWords }, { endOf }] = [await load("./src/prd/marks.ts"), await load("./src/lib/words.ts"), await load("./src/lib/over.ts")];
let text = ""; for await (const part of process.stdin) text += part;
const { story, run, now } = JSON.parse(text);
const marks = laneOf(story).marks.map(({ kind, words }) => [kind, words]);
console.log(JSON.stringify({ marks, state: stateWords(run, now), took: endOf(run, now) - run.started_at }));
"""


@pytest.mark.requires("node", "page")
def test_only_a_test_run_that_proves_something_is_marked_as_passed():
    world = play("prd.started → story.started → test.run passed=3 failed=0 → test.run passed=0 failed=0")
    world.publish(Event("test.run", {"passed": 0}, prd_id="PRD-1", story_id="US-001", at=world.now_ms))
    world.play("test.run passed=2 failed=1 → 9 min → prd.started")
    told = {"story": world.story("US-001", "event-1"), "run": world.run("event-1"), "now": world.now_ms}
    done = subprocess.run(
        [str(find_node()), "--input-type=module", "-e", SCRIPT],
        cwd=ROOT / "web", input=json.dumps(told), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "marks": [["passed", "3 ✓"], ["failed", "0 ✓"], ["failed", "no readable result"], ["failed", "2 ✓ 1 ✗"]],
        "state": "Never finished: a later run began",
        "took": 4_000,
    }

"""The page tells events in the terminal's words: `web/src/stream/describe.ts` under Node, against `cli/lines.py`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from claude_loop.cli.lines import describe
from tests.requirements import find_node
from tests.support import ROOT

# What events hold, hostile and broken ones too.
SAMPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("prd.started", {"total_stories": 5, "title": "Checkout"}),
    ("story.started", {"_invalid": ["`story_id` is missing."]}),
    ("test.run", {"passed": 10, "failed": 2, "failures": [{"name": "test_total"}, {"name": "test_tax"}]}),
    ("test.run", {"passed": "five", "_invalid": ["`data.passed` is no number.", "`data.failed` is missing."]}),
    ("commit.created", {"commit_hash": "0123456789" * 4, "subject": "Cart totals"}),
    ("error.occurred", {"error": "pip:\n\x1b[1;31mERROR\x1b[0m\x1b[K no such package"}),
    ("log.message", {"level": "warning", "message": "careful"}),
    ("agent.waiting", {"for": "me", "reason": "look", "until": "tomorrow", "_invalid": ["`until` is no time."]}),
    ("story.completed", {"success": True}),
    ("prd.completed", {"success": True}),
    ("test.run", {"_forgotten": True}),
    ("deploy.done", {"to": "staging", "hosts": 3, "_invalid": ["`data` is not what it was."]}),
)
STORY = {"state": "done·claimed", "why": ["no commit"], "worked_ms": 8_900, "attempt": 2, "attempts": []}
RUN = {
    "state": "done·claimed", "why": ["no commit"], "counts": {"verified": 0, "claimed": 1}, "total_stories": None, "stories": 1,
    "started_at": 0, "finished_at": 59_900,
}  # fmt: skip
SCRIPT = """
import { runnerImport } from "vite";
const { module } = await runnerImport("./src/stream/describe.ts", { configFile: false, logLevel: "error" });
let text = ""; for await (const part of process.stdin) text += part;
const { events, story, run } = JSON.parse(text);
console.log(JSON.stringify(events.map((event) => module.describe(event, { story: () => story, run: () => run }).text)));
"""


class Known:
    """A read model in which every event has the same story and run."""

    def story(self, event: dict[str, Any]) -> dict[str, Any]:
        del event
        return STORY

    def run(self, event: dict[str, Any]) -> dict[str, Any]:
        del event
        return RUN


@pytest.mark.requires("node", "page")
def test_an_event_has_the_same_words_on_the_page_and_in_the_terminal():
    events = [
        {"seq": 1, "type": type_, "project": "shop", "prd_id": "P", "story_id": "US-001", "data": data}
        for type_, data in SAMPLES
    ]
    done = subprocess.run(
        [str(find_node()), "--input-type=module", "-e", SCRIPT],
        cwd=ROOT / "web", input=json.dumps({"events": events, "story": STORY, "run": RUN}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [describe(event, Known()).text for event in events]

"""How the monitor gets in where a token is needed, and that it applies patches as the daemon does."""

import json
import subprocess
import sys

import pytest
from playwright.async_api import expect

from tests.live_server import LiveServer
from tests.support import ROOT

pytestmark = pytest.mark.requires("chromium", "page", "linux")


async def test_a_code_from_the_command_line_lets_the_page_in(home, page):
    import asyncio

    from claude_loop.client import DaemonClient
    from claude_loop.paths import Home

    async with LiveServer(home, auth={"loopback": "token"}) as server:
        await server.publish(1, "prd.started", {}, prd_id="PRD-001", project="shop")
        await page.goto(server.url)
        await expect(page.get_by_role("alert")).to_contain_text("claude-loop open")
        answer = await asyncio.to_thread(DaemonClient(Home(home)).post, "/api/session/code", {})
        await page.goto("about:blank")
        await page.goto(f"{server.url}/#{answer['code']}")
        await expect(page.get_by_role("article")).to_contain_text("PRD-001")
        assert "#" not in page.url


PATCHES = [
    {"seq": 1, "at": 1, "path": ["prd/*/A"], "value": {"a": 1, "b": [1]}},
    {"seq": 2, "at": 2, "path": ["prd/*/A", "a"], "value": None},
    {"seq": 3, "at": 3, "path": ["run/*/A/r"], "value": {"x": {"y": 1}}},
    {"seq": 4, "at": 4, "path": ["run/*/A/r", "x"], "value": 2},
    {"seq": 5, "at": 5, "path": ["run/*/A/r"], "value": None},
    {"seq": 6, "at": 6, "path": ["run/*/A/r"], "value": {"x": 3}},
    {"seq": 7, "at": 7, "path": ["run/*/A/r", "new"], "value": True},
]
SCRIPT = """
import { runnerImport } from 'vite';
const load = async (path) => (await runnerImport(path, { configFile: false, logLevel: 'error' })).module;
let text = ''; for await (const part of process.stdin) text += part;
const patches = JSON.parse(text), given = new Map();

const { applied } = await load('./src/lib/patches.ts');
const one = applied(given, patches);
let each = given; for (const patch of patches) each = applied(each, [patch]);

const idle = [];
globalThis.requestIdleCallback = (work) => idle.push(work);
globalThis.cancelIdleCallback = () => idle.pop();
const { Warmth } = await load('./src/stream/warmth.ts');
const items = Array.from({ length: 100 }, (_, n) =>
  ({ n, event: { type: n === 99 ? 'tool.started' : 'tick', data: { n } }, line: '', haystack: null }));
const ready = () => items.filter(({ haystack }) => haystack !== null).map(({ n }) => n);
const warmth = new Warmth();
warmth.add(items);
const steps = [ready()];
for (const left of [0, 0, 50]) {
  idle.pop()({ timeRemaining: () => left });
  steps.push(ready());
}
warmth.add(items.slice(0, 9));
const planned = idle.length;
warmth.end();
console.log(JSON.stringify({
  one: Object.fromEntries(one), each: Object.fromEntries(each), given: given.size, value: patches[2].value,
  steps, planned, ended: idle.length,
}));
"""


@pytest.fixture(scope="module")
def modules():
    """What modules of the page do by themselves: one process of Node for all tests, it takes a second to start."""
    line = ["node", "--input-type=module", "-e", SCRIPT]
    done = subprocess.run(
        line, cwd=ROOT / "web", input=json.dumps(PATCHES), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_applies_patches_as_the_daemon_does(modules):
    """`web/src/lib/patches.ts` against `apply_patches`, over the same patches."""
    from claude_loop.progress.patches import apply_patches

    documents = {}
    apply_patches(documents, json.loads(json.dumps(PATCHES)))
    assert modules["one"] == modules["each"] == documents, sys.version
    assert (modules["given"], modules["value"]) == (0, {"x": {"y": 1}})


def test_texts_to_search_are_made_in_idle_time_the_newest_first(modules):
    """`web/src/stream/warmth.ts`: at least a few at a time, and all but tool calls."""
    steps = modules["steps"]
    assert steps == [[], list(range(67, 99)), list(range(35, 99)), list(range(99))]
    assert (modules["planned"], modules["ended"]) == (1, 0)

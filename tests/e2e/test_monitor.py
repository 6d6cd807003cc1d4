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


def test_the_page_applies_patches_as_the_daemon_does():
    """`web/src/lib/patches.ts` under Node, against `apply_patches`, over the same patches."""
    from claude_loop.progress.patches import apply_patches

    patches = [
        {"seq": 1, "at": 1, "path": ["prd/*/A"], "value": {"a": 1, "b": [1]}},
        {"seq": 2, "at": 2, "path": ["prd/*/A", "a"], "value": None},
        {"seq": 3, "at": 3, "path": ["run/*/A/r"], "value": {"x": {"y": 1}}},
        {"seq": 4, "at": 4, "path": ["run/*/A/r", "x"], "value": 2},
        {"seq": 5, "at": 5, "path": ["run/*/A/r"], "value": None},
        {"seq": 6, "at": 6, "path": ["run/*/A/r"], "value": {"x": 3}},
        {"seq": 7, "at": 7, "path": ["run/*/A/r", "new"], "value": True},
    ]
    documents = {}
    apply_patches(documents, json.loads(json.dumps(patches)))
    script = (
        "import { runnerImport } from 'vite';"
        "const { module } = await runnerImport('./src/lib/patches.ts', { configFile: false, logLevel: 'error' });"
        "let text = ''; for await (const part of process.stdin) text += part;"
        "const patches = JSON.parse(text), given = new Map();"
        "const one = module.applied(given, patches);"
        "let each = given; for (const patch of patches) each = module.applied(each, [patch]);"
        "console.log(JSON.stringify([Object.fromEntries(one), Object.fromEntries(each), given.size, patches[2].value]));"
    )
    line = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(
        line, cwd=ROOT / "web", input=json.dumps(patches), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [documents, documents, 0, {"x": {"y": 1}}], sys.version

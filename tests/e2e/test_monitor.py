"""The monitor in a real browser, on a real daemon that is fed by the bash emitter."""

import json
import re
import subprocess
import sys

import pytest
from playwright.async_api import expect

from tests.e2e.daemon import Daemon
from tests.live_server import LiveServer
from tests.support import BIN, ROOT

pytestmark = pytest.mark.requires("chromium", "page", "linux")
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(tmp_path / "home")
    made.start()
    yield made
    made.stop()


def bash(daemon, script):
    line = ["bash", "-c", f"set -euo pipefail; source {BIN / 'emit_progress.sh'}; {script}; emit_flush 10"]
    subprocess.run(line, env=daemon.environ, check=True, timeout=30)


async def test_an_empty_daemon_says_how_to_fill_it_and_a_first_event_appears(daemon, page):
    await page.goto(daemon.url)
    await expect(page.get_by_role("heading", name="Nothing yet.")).to_be_visible()
    await expect(page.get_by_role("button", name="Copy")).to_be_visible()
    bash(daemon, "emit_prd_started SHOP-7 3; emit_story_started SHOP-7 US-001")
    card = page.get_by_role("article", name=re.compile("SHOP-7"))
    await expect(card).to_contain_text("1 running · 2 to do")
    await expect(page).to_have_title("1 running · claude-loop")
    bash(daemon, "emit_test_run SHOP-7 US-001 10 2 test_total test_coupon")
    await expect(card).to_contain_text("10 ✓ 2 ✗ test_total, test_coupon")
    bash(daemon, "emit_waiting SHOP-7 human 'permission Bash rm -rf build'")
    await expect(card).to_contain_text(re.compile(r"Waiting for you \d+ s: permission Bash rm -rf build"))
    await expect(page.get_by_role("heading", level=1)).to_have_text("SHOP-7 is waiting for you.")
    assert page.complaints == []


async def test_it_goes_on_by_itself_after_the_daemon_was_killed(daemon, page):
    bash(daemon, "emit_prd_started SHOP-7 1")
    await page.goto(daemon.url)
    await expect(page.get_by_role("article")).to_contain_text("SHOP-7")
    daemon.kill()
    await expect(page.get_by_role("alert")).to_contain_text("claude-loop up")
    subprocess.run(
        ["bash", "-c", f"source {BIN / 'emit_progress.sh'}; emit_story_started SHOP-7 US-001"],
        env=daemon.environ,
        check=True,
    )
    daemon.start()
    await expect(page.get_by_role("article")).to_contain_text("1 running", timeout=20_000)
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_from_the_overview_to_the_failing_test_of_a_story(daemon, page):
    bash(
        daemon,
        """emit_prd_started SHOP-7 2
        emit_story_started SHOP-7 US-001; emit_test_run SHOP-7 US-001 12 0; emit_commit_created SHOP-7 US-001 abc123d 'Cart totals'
        emit_story_completed SHOP-7 US-001
        emit_story_started SHOP-7 US-002; emit_test_run SHOP-7 US-002 10 1 test_coupon""",
    )
    await page.goto(daemon.url)
    await page.get_by_role("link", name=re.compile("SHOP-7")).click()
    rows = page.get_by_role("row")
    await expect(rows.filter(has_text="US-001")).to_contain_text("verified")
    await expect(rows.filter(has_text="US-002")).to_contain_text("test_coupon")
    await page.get_by_role("button", name=re.compile("US-002")).first.click()
    await expect(page).to_have_url(re.compile(r"/prd/SHOP-7\?project=proof&story=US-002"))
    bash(daemon, "emit_story_started SHOP-7 US-003")
    await expect(rows.filter(has_text="US-003")).to_contain_text("running")
    assert page.complaints == []


async def test_replay_shows_the_states_of_a_moment(daemon, page):
    bash(
        daemon,
        "emit_prd_started SHOP-7 1; emit_story_started SHOP-7 US-001; sleep 0.3; emit_test_run SHOP-7 US-001 1 1 test_a",
    )
    bash(
        daemon,
        "sleep 0.3; emit_test_run SHOP-7 US-001 2 0; emit_commit_created SHOP-7 US-001 abc123d; emit_story_completed SHOP-7 US-001",
    )
    await page.goto(f"{daemon.url}/prd/SHOP-7")
    row = page.get_by_role("row").filter(has_text="US-001")
    await expect(row).to_contain_text("verified")
    await page.get_by_role("button", name=re.compile("Replay")).click()
    scrubber = page.get_by_role("slider")
    for key, state in (("End", "verified"), ("Home", "no story"), ("End", "verified")):
        await scrubber.press(key)
        await expect(row if state != "no story" else page.locator("main")).to_contain_text(
            re.compile(state, re.IGNORECASE)
        )
    await page.get_by_role("button", name="Back to now").click()
    await expect(scrubber).to_have_count(0)
    assert page.complaints == []


async def test_an_id_that_several_projects_use_offers_a_choice(daemon, page):
    for project in ("shop", "blog"):
        bash(daemon, f"CLAUDE_LOOP_PROJECT={project} emit_prd_started PRD-001 1")
    await page.goto(f"{daemon.url}/prd/PRD-001")
    await page.get_by_role("link", name=re.compile("blog")).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("PRD-001")
    await expect(page).to_have_url(re.compile("project=blog"))
    await page.goto(f"{daemon.url}/prd/NOPE-1")
    await expect(page.get_by_role("heading", level=1)).to_have_text("No PRD NOPE-1")


async def test_hostile_text_is_shown_and_does_nothing(home, page):
    server = LiveServer(home)
    await server.start()
    try:
        ids = {"prd_id": "P" * 128, "project": EVIL[:100]}
        await server.publish(1, "prd.started", {"total_stories": 1, "title": EVIL + "\u202e" + "x" * 900}, **ids)
        await server.publish(1, "agent.waiting", {"for": "human", "reason": EVIL}, **ids)
        await server.publish(1, "error.occurred", {"error": EVIL}, story_id=EVIL[:100], **ids)
        for width in (1440, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            for path in ("/", f"/prd/{ids['prd_id']}", "/system"):
                await page.goto(server.url + path)
                await expect(page.locator("main")).to_contain_text("<img" if path != "/system" else "Healthy")
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, (path, width)
                assert "owned" not in await page.title()
        assert page.complaints == []
    finally:
        await server.stop()


async def test_a_code_from_the_command_line_lets_the_page_in(home, page):
    import asyncio

    from claude_loop.client import DaemonClient
    from claude_loop.paths import Home

    server = LiveServer(home, auth={"loopback": "token"})
    await server.start()
    try:
        await server.publish(1, "prd.started", {}, prd_id="PRD-001", project="shop")
        await page.goto(server.url)
        await expect(page.get_by_role("alert")).to_contain_text("claude-loop open")
        answer = await asyncio.to_thread(DaemonClient(Home(home)).post, "/api/session/code", {})
        await page.goto("about:blank")
        await page.goto(f"{server.url}/#{answer['code']}")
        await expect(page.get_by_role("article")).to_contain_text("PRD-001")
        assert "#" not in page.url
    finally:
        await server.stop()


async def test_an_exported_run_opens_from_disk(home, page, tmp_path):
    """What `claude-loop export --format html` makes of the built file."""
    from claude_loop.clock import SystemClock
    from claude_loop.progress.patches import PatchMaker

    server = LiveServer(home)
    await server.start()
    maker, ids = PatchMaker(300_000), {"prd_id": "SHOP-7", "project": "shop"}
    try:
        events = await server.publish(1, "prd.started", {"title": EVIL, "total_stories": 1}, **ids)
        events += await server.publish(1, "story.started", {}, story_id="US-001", **ids)
    finally:
        await server.stop()
    patches = [patch for event in events for patch in maker.event(event)]
    held = {
        "prd": "SHOP-7",
        "title": EVIL,
        "project": "shop",
        "exported_at": SystemClock().now_us() // 1000,
        "version": "1",
    }
    text = json.dumps(held | {"documents": {}, "patches": patches, "events": []})
    text = re.sub("[<>&\u2028\u2029]", lambda each: f"\\u{ord(each[0]):04x}", text)
    built = (ROOT / "claude_loop" / "web" / "dist" / "export.html").read_text()
    assert built.count('"__CLAUDE_LOOP_REPLAY__"') == 1
    file = tmp_path / "run.html"
    file.write_text(built.replace('"__CLAUDE_LOOP_REPLAY__"', text))
    await page.goto(file.as_uri())
    await expect(page.get_by_role("row").filter(has_text="US-001")).to_contain_text("running")
    assert "owned" not in (await page.title()).replace(EVIL, "")
    assert page.complaints == []


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

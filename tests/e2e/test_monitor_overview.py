"""The monitor's first page in real Chromium, before the real daemon, fed by the bash emitter."""

import asyncio
import json
import re
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from claude_loop.client import DaemonClient
from tests.e2e.daemon import Daemon, shared_daemon
from tests.e2e.monitor import NARROW, browser_context, emit, new_page, overflow, violations
from tests.support import PATIENCE

pytestmark = [
    pytest.mark.requires("chromium", "node"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u202egnp.exe" + "W" * 3000
)
CHECKOUT = r"""
emit_event prd.started prd=SHOP-7 title="Checkout rewrite" total_stories:=5
for story in US-001 US-002; do
  emit_story_started SHOP-7 $story
  emit_test_run SHOP-7 $story 12 0
  emit_commit_created SHOP-7 $story abc1234 "Cart totals"
  emit_story_completed SHOP-7 $story
done
emit_story_started SHOP-7 US-003
emit_story_completed SHOP-7 US-003
emit_story_started SHOP-7 US-004
emit_test_run SHOP-7 US-004 10 2 test_coupon test_tax
emit_story_completed SHOP-7 US-004 false
emit_iteration SHOP-7 7 20
emit_event usage.reported prd=SHOP-7 cost_usd:=14.2
"""


@pytest.fixture
def daemon(home):
    with Daemon(home) as running:
        yield running


def card(page, prd_id):
    return page.locator("article", has=page.get_by_role("link", name=prd_id))


async def test_an_empty_monitor_says_what_makes_something_appear(browser, daemon):
    async with browser_context(browser, permissions=["clipboard-read", "clipboard-write"]) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        await expect(page.get_by_role("heading", name="Nothing yet.")).to_be_visible()
        await page.get_by_role("button", name="Copy").click()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines() == ["claude-loop run -- ./your-loop.sh", "claude-loop hooks install"]
        assert await violations(page) == []
        await page.set_viewport_size(NARROW)
        assert await overflow(page) <= 0
        await asyncio.to_thread(daemon.run, "run", "--prd", "MY-PRD", "--", "true")
        await expect(card(page, "MY-PRD")).to_be_visible()
        assert page.complaints == []


async def test_cards_say_what_runs_what_waits_and_what_failed_in_that_order(browser, daemon):
    until = (datetime.now(UTC) + timedelta(minutes=43)).isoformat()
    script = f"""{CHECKOUT}
emit_waiting SHOP-7 human "permission Bash rm -rf build"
emit_prd_started LIMITED; emit_waiting LIMITED rate_limit "usage limit" {until}
emit_prd_started RUNS 3; emit_story_started RUNS US-001
emit_prd_started FAILS 1; emit_story_started FAILS US-001; emit_error FAILS US-001 "no network"; emit_prd_completed FAILS false
emit_prd_started CLAIMS 1; emit_story_started CLAIMS US-001; emit_story_completed CLAIMS US-001; emit_prd_completed CLAIMS
"""
    await asyncio.to_thread(emit, daemon.home.root, script)
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        checkout = card(page, "SHOP-7")
        await expect(checkout).to_contain_text("Checkout rewrite")
        await expect(checkout).to_contain_text("Waiting for you")
        await expect(checkout).to_contain_text("permission Bash rm -rf build")
        await expect(checkout).to_contain_text("2 verified · 1 claimed · 1 failing · 1 to do")
        await expect(checkout).to_contain_text("iteration 7 of 20")
        await expect(checkout).to_contain_text("$14.20")
        await expect(checkout).to_contain_text("10 ✓ 2 ✗ test_coupon, test_tax")
        await expect(checkout).to_contain_text("abc1234")
        await expect(card(page, "LIMITED")).to_contain_text(re.compile(r"Rate limited until \d\d:\d\d \(4[23] min\)"))
        await expect(card(page, "RUNS")).to_contain_text("1 running · 2 to do")
        await expect(card(page, "CLAIMS")).to_contain_text("Says done; ")
        order = [text.split()[0] for text in await page.locator("article h2").all_inner_texts()]
        assert order == ["SHOP-7", "LIMITED", "FAILS", "RUNS", "CLAIMS"]
        assert "waiting" in (await page.title()).lower()
        assert page.complaints == []


async def test_a_page_left_open_follows_and_survives_a_killed_daemon(browser, daemon):
    await asyncio.to_thread(emit, daemon.home.root, "emit_prd_started PRD-1 2; emit_story_started PRD-1 US-001")
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        await expect(card(page, "PRD-1")).to_contain_text("1 running · 1 to do")
        await asyncio.to_thread(emit, daemon.home.root, "emit_test_run PRD-1 US-001 3 1 test_total")
        await expect(card(page, "PRD-1")).to_contain_text("3 ✓ 1 ✗ test_total")
        daemon.kill()
        await expect(page.get_by_role("status").first).to_contain_text("Reconnecting")
        script = (
            "emit_story_started PRD-1 US-001; emit_test_run PRD-1 US-001 4 0; emit_commit_created PRD-1 US-001 fade123"
        )
        spooled = asyncio.to_thread(emit, daemon.home.root, script)  # while nobody listens
        _, _ = await asyncio.gather(spooled, asyncio.to_thread(daemon.start))
        await expect(page.get_by_role("status").first).to_contain_text("Live")
        await expect(card(page, "PRD-1")).to_contain_text("4 ✓")
        await expect(card(page, "PRD-1")).to_contain_text("fade123")


async def test_the_last_event_is_anybody_s_and_going_silent_is_none(browser, daemon):
    client = DaemonClient(daemon.home)
    alone = {"type": "session.started", "project": "shop", "session_id": "S1", "data": {"agent": "claude"}}
    alone["timestamp"] = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
    await asyncio.to_thread(client.post, "/api/events", alone)
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        await expect(page.get_by_role("status").first).to_contain_text(re.compile(r"last event 2\d min ago"))
        said_at = datetime.now(UTC) - timedelta(seconds=298)  # silent for five minutes soon
        event = {"type": "prd.started", "project": "shop", "prd_id": "QUIET", "timestamp": said_at.isoformat()}
        await asyncio.to_thread(client.post, "/api/events", event)
        await expect(card(page, "QUIET")).to_contain_text("Silent")
        await expect(page.get_by_role("status").first).to_contain_text(re.compile(r"last event \d+ min ago"))
        assert page.complaints == []


async def test_what_happened_meanwhile_is_summed_up_at_the_next_visit(browser, daemon):
    await asyncio.to_thread(emit, daemon.home.root, "emit_prd_started PRD-1 1; emit_story_started PRD-1 US-001")
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        await expect(card(page, "PRD-1")).to_be_visible()
        await page.close()
        await asyncio.to_thread(emit, daemon.home.root, "emit_prd_completed PRD-1 false")
        page = await new_page(context)
        await page.goto(f"{daemon.url}/health")  # the same origin, without the monitor: an hour passes
        await page.evaluate(
            "localStorage.setItem('claude-loop-looked', JSON.stringify("
            "{...JSON.parse(localStorage.getItem('claude-loop-looked')), at: Date.now() - 3600e3}))"
        )
        await page.goto(daemon.url)
        away = page.get_by_role("region", name="While you were away")
        await expect(away).to_contain_text("PRD-1")
        await away.get_by_role("button", name="Got it").click()
        await expect(away).to_have_count(0)


# A browser that nobody looks at, and a list of what it was asked to show; whether it may is the browser's own answer.
UNSEEN = """
Object.defineProperty(Document.prototype, "hidden", { get: () => window.unseen ?? true });
window.told = [];
const asked = Notification;
window.Notification = class {
  static get permission() { return asked.permission; }
  static requestPermission() { return asked.requestPermission(); }
  constructor(title, { body }) { told.push(`${title}: ${body}`); }
  close() {}
};
"""


async def test_who_asked_for_it_is_notified_and_the_tab_shows_the_worst_state(browser, daemon):
    async def say(script):
        await asyncio.to_thread(emit, daemon.home.root, script)

    async with browser_context(browser, permissions=["notifications"]) as context:
        await context.add_init_script(UNSEEN)
        page = await new_page(context)
        icon = page.locator("link[rel=icon]")
        icons = []

        async def worst(title, colour):
            await expect(page).to_have_title(f"{title} · claude-loop")
            await expect(icon).to_have_attribute("href", re.compile(f"^data:image/svg.*%23{colour}"))
            icons.append(await icon.get_attribute("href"))

        await page.goto(daemon.url)
        await expect(icon).to_have_attribute("href", "/icon.svg")
        await say("emit_prd_started QUIET; emit_prd_completed QUIET; emit_prd_started SEEN; emit_prd_started RUN-1")
        await worst("2 running", "2563eb")
        assert await page.evaluate("told") == []  # nobody has asked for it
        bell = page.get_by_role("button", name="Notifications")
        await bell.click()
        await expect(bell).to_have_attribute("aria-pressed", "true")
        await say("emit_prd_completed RUN-1 false")
        await worst("1 failed", "dc2626")
        await say('emit_event prd.started prd=RUN-2 title="Checkout rewrite"; emit_waiting RUN-2 human "May I?"')
        await worst("1 waiting", "d97706")
        await say("emit_log_message RUN-2 '' info 'still there'; emit_prd_started RUN-3; emit_prd_completed RUN-3")
        await expect(card(page, "RUN-3")).to_contain_text("Says done")
        await page.evaluate("unseen = false")
        await say("emit_prd_completed SEEN false")
        await worst("1 waiting", "d97706")
        await expect(card(page, "SEEN")).to_contain_text("Failed")
        told = await page.evaluate("told")
        assert [re.sub(r" (now|\d+ s( ago)?)", "", each) for each in told] == [
            "RUN-1: Failed: it was reported as failed",
            "RUN-2 Checkout rewrite: Waiting for you: May I?",
            "RUN-3: Says done; no story was reported",
        ]
        assert len(set(icons)) == 3
        await page.reload()
        await expect(bell).to_have_attribute("aria-pressed", "true")  # it is remembered
        await bell.click()
        await expect(bell).to_have_attribute("aria-pressed", "false")
        assert page.complaints == []


@pytest.fixture(scope="module")
def hostile():
    """One daemon with hostile text, for all that look at it."""
    script = f"""{CHECKOUT}
emit_event prd.started prd=EVIL title="$1" total_stories:=1
emit_story_started EVIL US-001; emit_test_run EVIL US-001 1 1 "$1"; emit_waiting EVIL human "$1"
"""
    quoted = HOSTILE.replace("'", "'\\''")
    with shared_daemon() as one:
        emit(one.home.root, f"set -- '{quoted}'\n{script}")
        yield one


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
async def test_hostile_text_stays_text_and_within_its_card(browser, hostile, theme, viewport):
    async with browser_context(browser, color_scheme=theme, **({"viewport": viewport} if viewport else {})) as context:
        page = await new_page(context)
        await page.goto(hostile.url)
        await expect(card(page, "EVIL")).to_contain_text("<img src=x onerror=")
        await expect(card(page, "SHOP-7")).to_be_visible()
        assert "owned" not in await page.title()
        assert await overflow(page) <= 0
        assert await violations(page) == []
        assert page.complaints == []


async def test_what_is_long_over_is_drawn_fifty_at_a_time_and_only_when_unfolded(browser, hostile):
    long_ago = datetime.now(UTC) - timedelta(days=3)
    over = [
        {"type": type_, "project": "old", "prd_id": f"OLD-{number:02}", "data": data, "timestamp": long_ago.isoformat()}
        for number in range(60)
        for type_, data in (("prd.started", {}), ("prd.completed", {"success": True}))
    ]
    await asyncio.to_thread(publish, hostile, over)
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(hostile.url)
        await expect(card(page, "SHOP-7")).to_be_visible()
        old = page.locator("details article")
        await expect(page.get_by_text("Earlier · 60")).to_be_visible()
        await expect(old).to_have_count(0)
        await page.get_by_text("Earlier · 60").click()
        await expect(old).to_have_count(50)
        await page.get_by_role("button", name="Show 10 more of 10").click()
        await expect(old).to_have_count(60)
        await expect(page.get_by_role("button", name="more of")).to_have_count(0)


def publish(daemon, events):
    body = "\n".join(json.dumps(event) for event in events).encode()
    request = urllib.request.Request(
        f"{daemon.url}/api/events", data=body, headers={"Content-Type": "application/x-ndjson"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert all("seq" in one for one in json.load(answer)["accepted"])

"""The monitor's views of agents: the lines on cards, and the page of one session, in real Chromium."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.e2e.daemon import Daemon, shared_daemon
from tests.e2e.monitor import NARROW, WIDE, browser_context, emit, new_page, overflow, violations

pytestmark = [
    pytest.mark.requires("chromium", "node"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]
# Pauses give the waterfall something to draw.
AGENT = r"""
pause() { read -r -t "${1:-0.2}" _ <> <(:) || :; }
says() { emit_event "$1" prd=SHOP-7 session=S1 "${@:2}"; }
emit_event prd.started prd=SHOP-7 title="Checkout rewrite" total_stories:=1
emit_story_started SHOP-7 US-001
says session.started agent=claude model=sonnet reason=startup
says prompt.submitted prompt="Make the totals of the cart right."
says tool.started tool=Read call_id=c1 summary=src/cart.py; pause
says tool.completed tool=Read call_id=c1 duration_ms:=200
says subagent.started agent_id=a1 agent_type=Explore description="look for callers"
says tool.started tool=Grep call_id=c2 summary="total(" agent_id=a1; pause
says tool.completed tool=Grep call_id=c2 agent_id=a1
says subagent.ended agent_id=a1
says tool.started tool=Bash call_id=c3 summary="pytest -q"; pause
says tool.failed tool=Bash call_id=c3 error="Exit code 1" duration_ms:=1200
says agent.message message="One test fails; I look at it."
says tool.started tool=Bash call_id=c4 summary="pytest -q tests/test_cart.py"
"""
ADDRESS = "/session/S1?project=shop"


@pytest.fixture
def daemon(home):
    with Daemon(home) as running:
        emit(running.home.root, AGENT)
        yield running


@pytest.fixture(scope="module")
def looked_at():
    """One daemon for all tests that only look at the session."""
    with shared_daemon() as daemon:
        emit(daemon.home.root, AGENT)
        yield daemon


async def say(daemon, script):
    await asyncio.to_thread(emit, daemon.home.root, script)


async def test_a_card_says_what_its_agent_is_doing_and_leads_to_the_session(browser, daemon):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url)
        line = page.locator("article a[href^='/session/']")
        await expect(line).to_contain_text("claude")
        await expect(line).to_contain_text("Bash pytest -q tests/test_cart.py")
        await say(daemon, "emit_event session.compacting prd=SHOP-7 session=S1 trigger=auto")
        await expect(line).to_contain_text("compacting its context")
        await line.click()
        await expect(page).to_have_url(daemon.url + ADDRESS)
        await expect(page.get_by_text("Grep total(", exact=True)).to_be_visible()  # among the events, in words
        assert page.complaints == []


async def test_the_page_of_a_session_follows_it(browser, daemon):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url + ADDRESS)
        conversation = page.get_by_role("region", name="Conversation")
        calls = page.get_by_role("region", name="Tool calls")
        await expect(conversation.get_by_text("Make the totals of the cart right.")).to_be_visible()
        await expect(conversation.get_by_text("One test fails; I look at it.")).to_be_visible()
        await expect(calls.get_by_role("listitem")).to_have_count(5)  # four calls, and the lane of a subagent
        await expect(calls.locator("li.lane")).to_contain_text("Explore look for callers")
        await expect(calls.locator("li.inner")).to_contain_text("Grep")
        await expect(calls.get_by_role("listitem").filter(has=page.locator("i.bad"))).to_contain_text("✗ 1.2")
        await expect(calls.locator("i.open")).to_have_count(1)
        await say(daemon, 'emit_event tool.completed prd=SHOP-7 session=S1 tool=Bash call_id=c4; '
                  'emit_event agent.waiting prd=SHOP-7 session=S1 for=human reason="permission Bash rm -rf build"')  # fmt: skip
        await expect(page.locator("p.now")).to_contain_text("permission Bash rm -rf build")
        await expect(calls.locator("i.open")).to_have_count(0)
        await say(daemon, "emit_event agent.idle prd=SHOP-7 session=S1; emit_prd_completed SHOP-7 true")
        await expect(page.locator("p.now")).to_contain_text("Ended")
        assert page.complaints == []


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", NARROW)])
async def test_it_can_be_read_by_everybody(browser, looked_at, scheme, size):
    async with browser_context(browser, color_scheme=scheme, viewport=size) as context:
        page = await new_page(context)
        await page.goto(looked_at.url + ADDRESS)
        await expect(page.locator("i.open")).to_be_visible()
        assert await violations(page) == []
        assert await overflow(page) <= 0
        assert page.complaints == []


ALONE = r"""
emit_prd_started RUNS 3; emit_story_started RUNS US-001
emit_event session.started session=L1 agent=claude; emit_event prompt.submitted session=L1 prompt="Make the coupons right."
emit_event session.started session=L2 agent=codex; emit_event prompt.submitted session=L2 prompt="Look for flaky tests."
"""
ASKS = 'emit_event agent.waiting session=L1 for=human reason="permission Bash rm -rf build"'
LIMITED = 'emit_event agent.waiting session=L2 for=rate_limit reason="usage limit"'
ICON = "decodeURIComponent(document.querySelector('link[rel=icon]').href)"
# Somebody who wants to be told, and who looks at another tab once `hide` was called.
AWAY = """
localStorage.setItem('claude-loop-notify', 'on');
window.told = [];
window.Notification = class {
  static permission = 'granted';
  constructor(title, { body }) { told.push(title, body); }
};
window.hide = () => Object.defineProperty(document, 'hidden', { value: true });
"""
AN_HOUR_AGO = """
localStorage.setItem('claude-loop-looked', JSON.stringify(
  { ...JSON.parse(localStorage.getItem('claude-loop-looked')), at: Date.now() - 3600e3 }))
"""


async def test_an_agent_without_a_prd_that_waits_comes_before_everything(browser, home):
    with Daemon(home) as daemon:
        await say(daemon, ALONE)
        async with browser_context(browser) as context:
            await context.add_init_script(AWAY)
            page = await new_page(context)
            await page.goto(daemon.url)
            await expect(page.get_by_role("heading", level=1)).to_have_text("RUNS is running.")
            at_work = page.get_by_role("region", name="Agents without a PRD", exact=True)
            await expect(at_work.get_by_role("link")).to_have_count(2)
            await page.goto(f"{daemon.url}/health")  # the same origin, without the monitor: an hour passes
            await page.evaluate(AN_HOUR_AGO)
            await say(daemon, ASKS)
            await page.goto(daemon.url)
            away = page.get_by_role("region", name="While you were away")
            await expect(away).to_contain_text("claude in shop began to wait: permission Bash rm -rf build")
            await expect(page.get_by_role("heading", level=1)).to_have_text("claude in shop is waiting for you.")
            await expect(page).to_have_title("1 waiting · claude-loop")
            assert "#d97706" in await page.evaluate(ICON)
            first = page.get_by_role("article").first
            await expect(first).to_contain_text("permission Bash rm -rf build")
            await expect(first).to_contain_text("Make the coupons right.")
            await expect(at_work).not_to_contain_text("claude")
            assert await violations(page) == []
            await page.evaluate("hide()")
            await say(daemon, LIMITED)
            await expect(page).to_have_title("2 waiting · claude-loop")
            title, words = await page.evaluate("told")
            assert (title, words.partition(":")[2]) == ("codex in shop", " usage limit")
            await expect(page.get_by_text("1 waiting for other things · 1 running")).to_be_visible()
            await first.get_by_role("link").click()
            await expect(page.locator("p.now")).to_contain_text("permission Bash rm -rf build")
            assert page.complaints == []

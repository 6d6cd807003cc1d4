"""The monitor's views of one PRD, its replay, its exported file and the daemon itself, in real Chromium."""

import asyncio
import json
import re

import pytest
from playwright.async_api import expect

from tests.e2e.daemon import Daemon, shared_daemon
from tests.e2e.monitor import NARROW, WIDE, browser_context, emit, new_page, overflow, violations

pytestmark = [
    pytest.mark.requires("chromium", "node"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]
# One failing story among finished ones. Pauses keep the marks of the timeline apart.
RUN = r"""
pause() { read -r -t "${1:-0.05}" _ <> <(:) || :; }
emit_event prd.started prd=SHOP-7 title="Checkout rewrite" total_stories:=3
emit_story_started SHOP-7 US-001; pause
emit_test_run SHOP-7 US-001 12 0; pause
emit_commit_created SHOP-7 US-001 abc1234 "Cart totals"; emit_story_completed SHOP-7 US-001; pause
emit_story_started SHOP-7 US-002; pause
emit_test_run SHOP-7 US-002 10 2 test_coupon test_tax; pause 0.5
emit_error SHOP-7 US-002 "tax table missing"; emit_story_completed SHOP-7 US-002 false; pause
emit_waiting SHOP-7 human "permission Bash rm -rf build"
"""
ADDRESS = "/prd/SHOP-7?project=shop"
# Names and reasons that a narrow screen has no room for, and a failing run of which no test is named.
LONG = r"""
emit_prd_started "Checkout of the whole shop" 2; emit_story_started "Checkout of the whole shop" "US-002 of the coupons"
emit_event test.run prd="Checkout of the whole shop" story="US-002 of the coupons" passed:=1 failed:=1
emit_event story.blocked prd="Checkout of the whole shop" story="US-002 of the coupons" \
  reason="nobody has said yet which of the two tables of taxes is the one that holds from January on"
"""


@pytest.fixture
def daemon(home):
    with Daemon(home) as running:
        emit(running.home.root, RUN)
        yield running


@pytest.fixture(scope="module")
def looked_at():
    """One daemon for all tests that only look at the run."""
    with shared_daemon() as daemon:
        emit(daemon.home.root, RUN)
        emit(daemon.home.root, LONG)
        yield daemon


def story_row(page, story):
    return page.get_by_role("row", name=story)


async def test_from_the_overview_to_the_failing_test_in_one_click(browser, looked_at):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(looked_at.url)
        await page.get_by_role("link", name="SHOP-7").click()
        await expect(page).to_have_url(f"{looked_at.url}{ADDRESS}")
        failing = story_row(page, "US-002")
        await expect(failing).to_contain_text("failing")
        await expect(failing).to_contain_text("test_coupon")
        await expect(story_row(page, "US-001")).to_contain_text("verified")
        await expect(story_row(page, "US-001")).to_contain_text("abc1234 Cart totals")
        await page.go_back()
        await expect(page.locator("article")).to_have_count(2)
        assert page.complaints == []


async def test_the_timeline_has_a_lane_a_story_follows_and_selects(browser, daemon):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url + ADDRESS)
        timeline = page.get_by_role("region", name="Timeline")
        await expect(timeline.locator("g[data-story]")).to_have_count(2)
        await expect(timeline.locator("g[data-story=US-002] [data-seq]")).to_have_count(2)  # a test run, an error
        await expect(timeline.locator("rect.wait")).to_have_count(1)
        first = await timeline.locator("g[data-story=US-001] rect.bar").get_attribute("x")
        assert float(first) > 6  # the marks of the first moment are not cut in two
        await asyncio.to_thread(emit, daemon.home.root, "emit_resumed SHOP-7; emit_story_started SHOP-7 US-003")
        await expect(timeline.locator("g[data-story=US-003] rect.bar.running")).to_have_count(1)
        await timeline.get_by_role("button", name="US-002").click()
        await expect(page).to_have_url(f"{daemon.url}{ADDRESS}&story=US-002")
        await expect(timeline.locator("g[data-story=US-001]")).to_have_class(re.compile(r"\bdim\b"))
        await timeline.get_by_role("button", name="Zoom in").click()
        await expect(timeline.get_by_role("button", name="Zoom out")).to_be_enabled()
        assert page.complaints == []


async def test_an_earlier_run_can_be_chosen_and_an_ambiguous_id_asks_which(browser, daemon):
    await asyncio.to_thread(emit, daemon.home.root, "emit_prd_completed SHOP-7 false; emit_prd_started SHOP-7 3")
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(daemon.url + ADDRESS)
        await expect(page.get_by_role("row", name="US-002")).to_have_count(0)
        await page.get_by_label("Run", exact=False).select_option(label=await _first_run(page))
        await expect(story_row(page, "US-002")).to_contain_text("test_coupon")
        await asyncio.to_thread(emit, daemon.home.root, "emit_prd_started SHOP-7", "other")
        await page.goto(f"{daemon.url}/prd/SHOP-7")
        await expect(page.get_by_role("heading", name="Which SHOP-7?")).to_be_visible()
        await page.get_by_role("link", name="shop", exact=False).first.click()
        await expect(page.get_by_role("region", name="Timeline")).to_be_visible()
        await page.goto(f"{daemon.url}/prd/NOBODY")
        await expect(page.get_by_role("heading", name="No PRD NOBODY")).to_be_visible()
        assert page.complaints == []


async def _first_run(page) -> str:
    options = page.get_by_label("Run", exact=False).locator("option")
    await expect(options).to_have_count(2)
    return (await options.all_inner_texts())[-1]


async def test_replay_shows_the_page_as_it_was_at_any_moment(browser, looked_at):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(looked_at.url + ADDRESS)
        await page.get_by_role("button", name="Replay this run").click()
        moment = page.get_by_role("slider", name="Moment")
        await moment.evaluate(
            "input => { input.value = input.max; input.dispatchEvent(new Event('input', {bubbles: true})) }"
        )
        await expect(story_row(page, "US-002")).to_contain_text("failing")
        await moment.evaluate(
            "input => { input.value = input.min; input.dispatchEvent(new Event('input', {bubbles: true})) }"
        )
        await expect(story_row(page, "US-002")).to_have_count(0)
        await page.get_by_role("button", name="60×").click()
        await page.get_by_role("button", name="Play").click()
        await expect(story_row(page, "US-002")).to_contain_text("failing")  # it has played to the end
        await page.get_by_role("button", name="Back to now").click()
        await expect(page.get_by_text("Waiting for you").first).to_be_visible()
        assert page.complaints == []


async def test_an_exported_file_replays_from_disk_without_a_daemon(browser, daemon, tmp_path):
    file = tmp_path / "run.html"
    hostile = "emit_log_message SHOP-7 US-002 info '</script><script>document.title=1</script><!--'"
    await asyncio.to_thread(emit, daemon.home.root, hostile)
    done = daemon.run("export", "--prd", "SHOP-7", "--format", "html", "--output", str(file))
    assert done.returncode == 0, done.stderr
    daemon.stop()
    async with browser_context(browser) as context:
        page = await new_page(context)
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        await page.goto(file.as_uri())
        await page.get_by_role("slider", name="Moment").evaluate(
            "input => { input.value = input.max; input.dispatchEvent(new Event('input', {bubbles: true})) }"
        )
        await expect(story_row(page, "US-002")).to_contain_text("test_coupon")
        assert await page.title() != "1"
        await expect(page.get_by_label("Events").get_by_text("tests").first).to_be_visible()
        await expect(page.get_by_text("Not connected")).to_have_count(0)
        for size, theme in ((WIDE, "light"), (NARROW, "dark")):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=theme)
            assert await violations(page) == [], theme
            assert await overflow(page) <= 0, theme
        assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert page.complaints == []


async def test_the_system_view_says_how_the_daemon_does_and_names_what_it_rejected(browser, daemon):
    spool = daemon.home.root / "spool" / "1700000000000000-1-00000000.jsonl"
    spool.write_text('\n"no object"\n')
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(f"{daemon.url}/system")
        await expect(page.locator("main")).to_contain_text("The line is JSON, but not an object.")
        await expect(page.locator("main")).to_contain_text(json.loads(daemon.run("status", "--json").stdout)["version"])
        await expect(page.locator("canvas").first).to_be_visible()
        assert page.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
async def test_every_view_is_accessible_and_fits(browser, looked_at, theme, viewport):
    async with browser_context(browser, color_scheme=theme, **({"viewport": viewport} if viewport else {})) as context:
        page = await new_page(context)
        for path, sign in ((ADDRESS, "Timeline"), ("/events", "test_coupon"), ("/system", "Log")):
            await page.goto(looked_at.url + path)
            await expect(page.locator("main")).to_contain_text(sign)
            assert await violations(page) == [], path
            assert await overflow(page) <= 0, path
        assert page.complaints == []


async def test_long_names_and_reasons_leave_room_for_each_other_on_a_phone(browser, looked_at):
    async with browser_context(browser, viewport=NARROW) as context:
        page = await new_page(context)
        await page.goto(looked_at.url + "/prd/Checkout%20of%20the%20whole%20shop?project=shop")
        story = story_row(page, "US-002 of the coupons")
        await expect(story).to_contain_text("from January on")
        await expect(story).not_to_contain_text("more")  # than none that is named
        name = await story.get_by_role("rowheader").bounding_box()
        assert name["width"] >= 100, "the reason has taken the name's room"
        await page.goto(looked_at.url + "/events")
        await expect(page.locator(".line").first).to_be_visible()
        within = "(lines) => lines.every((e) => e.querySelector('.when').getBoundingClientRect().right < e.getBoundingClientRect().right)"
        assert await page.locator("li .line").evaluate_all(within)
        await page.goto(looked_at.url + "/session/none?project=shop")
        await expect(page.get_by_role("heading", name="No session none")).to_be_visible()
        assert await overflow(page) <= 0


async def test_no_moment_of_the_timeline_is_cut_at_its_edge(browser, looked_at):
    async with browser_context(browser) as context:
        page = await new_page(context)
        await page.goto(looked_at.url + ADDRESS)
        await expect(page.locator(".axis span").first).to_be_visible()
        for width in range(1360, 1440, 20):
            await page.set_viewport_size({"width": width, "height": 900})
            cut = "(axis) => [...axis.children].filter((e) => e.getBoundingClientRect().right > axis.getBoundingClientRect().right).length"
            assert await page.locator(".axis").evaluate(cut) == 0, width


async def test_a_link_from_a_chat_opens_and_a_frame_elsewhere_does_not(browser, looked_at):
    """Cross-site navigation is how a link from a chat comes; a frame would let its page steal clicks."""
    async with browser_context(browser) as context:
        page = await new_page(context)
        link = f"<a href='{looked_at.url}{ADDRESS}'>look</a><iframe src='{looked_at.url}/'></iframe>"
        await page.route("http://chat.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
        await page.goto("http://chat.example/")
        frame = page.frames[-1]
        assert await frame.evaluate("document.body?.innerText ?? ''") in ("", None) or "claude" not in frame.url
        await page.get_by_role("link", name="look").click()
        await expect(page.get_by_role("region", name="Timeline")).to_be_visible()

"""A card in every state, the keys, and a timeline of what began long ago: in real Chromium, before one real daemon."""

import re
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from playwright.async_api import expect

from claude_loop.client import DaemonClient
from tests.e2e.daemon import shared_daemon
from tests.e2e.monitor import NARROW, WIDE, browser_context, new_page, overflow, violations

pytestmark = [
    pytest.mark.requires("chromium", "node"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="session"),
]
# It is about noon there, so that minutes ago is today and the clock needs no date.
OFFSET = 12 - datetime.now(UTC).hour
NOON = {"timezone_id": f"Etc/GMT{-OFFSET:+d}"}
# What each has done, by minutes ago, and what its card says, in the order of the page.
STATES: tuple[tuple[str, list[tuple[float, str, dict[str, Any]]], str], ...] = (
    (
        "ASKS",
        [(13, "prd.started", {}), (12.1, "agent.waiting", {"for": "human", "reason": "permission Bash rm -rf build"})],
        "Waiting for you 12 min: permission Bash rm -rf build",
    ),
    (
        "LIMITED",
        [(30, "prd.started", {}), (20, "agent.waiting", {"for": "rate_limit", "reason": "usage limit", "until": "UNTIL"})],
        "Rate limited until UNTIL (43 min)",
    ),
    (
        "GONE",
        [(40, "prd.started", {}), (39, "system.run_owned", {"pid": 9}), (31, "system.run_vanished", {"pid": 9})],
        "Process gone since GONE without finishing",
    ),
    (
        "FAILED",
        [(40, "prd.started", {}), (32, "prd.completed", {"success": False})],
        "Failed 32 min ago: it was reported as failed",
    ),
    (
        "SILENT",
        [(30, "prd.started", {}), (7.1, "test.run", {"story_id": "US-1", "passed": 1, "failed": 0})],
        "Silent for 7 min, last: test.run",
    ),
    ("PAUSED", [(30, "prd.started", {}), (6.1, "control.paused", {"reason": "lunch"})], "Paused 6 min: lunch"),
    ("RUNS", [(3, "prd.started", {}), (2.1, "story.started", {"story_id": "US-1"})], "Running, last: story.started 2 min ago"),
    (
        "PROVED",
        [
            (50, "prd.started", {"total_stories": 1}),
            (49, "story.started", {"story_id": "US-1"}),
            (48, "test.run", {"story_id": "US-1", "passed": 3, "failed": 0}),
            (47, "commit.created", {"story_id": "US-1", "commit_hash": "abc1234"}),
            (46, "story.completed", {"story_id": "US-1", "success": True}),
            (8.1, "prd.completed", {"success": True}),
        ],
        "Done and verified 8 min ago",
    ),
    (
        "CLAIMED",
        [
            (50, "prd.started", {"total_stories": 1}),
            (49, "story.started", {"story_id": "US-1"}),
            (48, "story.completed", {"story_id": "US-1", "success": True}),
            (9.1, "prd.completed", {"success": True}),
        ],
        "Says done; US-1: no test run, no commit",
    ),
    ("AWAY", [(50, "prd.started", {}), (40, "prd.completed", {"success": False})], "Failed 40 min ago: it was reported as failed"),
)  # fmt: skip


@pytest.fixture(scope="module")
def states():
    """One daemon with a PRD in each state, and what each card says."""
    now = datetime.now(UTC)
    moments = {"UNTIL": now + timedelta(minutes=43, seconds=50), "GONE": now - timedelta(minutes=31)}
    said = {}
    with shared_daemon() as daemon:
        client = DaemonClient(daemon.home)
        for prd, told, words in STATES:
            events = [event(prd, now - timedelta(minutes=ago), type_, data) for ago, type_, data in told]
            for each in events:
                if each["data"].get("until"):
                    each["data"]["until"] = moments["UNTIL"].isoformat()
            assert client.post("/api/events", events)["rejected"] == [], prd
            said[prd] = pattern(words, moments)
        client.post("/api/prds/AWAY/archive", {"archived": True, "project": "shop"})
        yield daemon, said, now


def pattern(words: str, moments: dict[str, datetime]) -> str:
    """What the card says, in a test that comes some seconds or a minute later."""
    words = re.escape(words).replace("\\ ", " ")
    for name, moment in moments.items():
        words = words.replace(name, f"{moment + timedelta(hours=OFFSET):%H:%M}")
    step = -1 if "limited" in words else 1
    return re.sub(r"(\d+) min", lambda found: f"(?:{found[1]}|{int(found[1]) + step}) min", words)


def event(prd: str, at: datetime, type_: str, data: dict[str, Any]) -> dict[str, Any]:
    where = {"project": "shop", "prd_id": prd}
    if "story_id" in data:
        where["story_id"] = data["story_id"]
    return {**where, "type": type_, "timestamp": at.isoformat(), "data": dict(data)}


def card(page, prd):
    return page.locator("article", has=page.get_by_role("link", name=prd))


async def open_overview(context, daemon):
    page = await new_page(context)
    await page.goto(daemon.url)
    await expect(card(page, "SILENT")).to_contain_text("Silent")
    return page


async def test_a_card_for_each_state_in_order_in_words_and_for_everybody(browser, states):
    daemon, said, _ = states
    async with browser_context(browser, **NOON) as context:
        page = await open_overview(context, daemon)
        await page.locator("summary", has_text="Earlier · 1").click()
        cards = page.locator("article")
        await expect(cards).to_have_count(len(said))  # those below are drawn when they are unfolded
        names = [text.split()[0] for text in await cards.locator("h2").all_inner_texts()]
        assert names == list(said)
        for words, expected in zip(await cards.locator(".state").all_inner_texts(), said.values(), strict=True):
            assert re.fullmatch(expected, words)
        await expect(page.get_by_role("heading", level=1)).to_have_text("ASKS is waiting for you.")
        assert await page.title() == "2 waiting · claude-loop"
        for size, theme in product((WIDE, NARROW), ("light", "dark")):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=theme)
            assert await overflow(page) <= 0, (size, theme)
            assert await violations(page) == [], (size, theme)
        # Many seconds have passed: what was opened is still open.
        await expect(page.locator("details article")).to_contain_text("archived")
        assert page.complaints == []


async def test_keys_move_search_go_to_the_overview_and_explain_themselves(browser, states):
    daemon, _, _ = states
    async with browser_context(browser, **NOON) as context:
        page = await open_overview(context, daemon)
        press = page.keyboard.press
        for key, prd in (
            ("j", "ASKS"),
            ("j", "LIMITED"),
            ("j", "GONE"),
            ("k", "LIMITED"),
            ("k", "ASKS"),
            ("k", "ASKS"),
        ):
            await press(key)
            await expect(page.locator("a[data-card]:focus")).to_contain_text(prd)
        await press("Enter")
        await expect(page).to_have_url(f"{daemon.url}/prd/ASKS?project=shop")
        await press("g")
        await press("o")
        await expect(page).to_have_url(f"{daemon.url}/")
        helped = page.get_by_role("dialog", name="Keys")
        for _ in range(2):
            await press("?")
            await expect(helped).to_contain_text("leave the search")
            await press("Escape")
            await expect(helped).to_be_hidden()
        for key in "?", "Escape", "?":  # in one breath
            await press(key)
        await expect(helped).to_contain_text("leave the search")
        await press("Escape")
        await press("/")
        field = page.get_by_role("searchbox", name="Search events")
        await expect(field).to_be_focused()
        assert page.url == f"{daemon.url}/events"
        await page.keyboard.type("go? jk")  # letters like any others, while one writes
        await expect(field).to_have_value("go? jk")
        await field.fill("lunch")
        await press("Escape")
        await expect(field).not_to_be_focused()
        await expect(field).to_have_value("lunch")
        await expect(page.locator("[data-count]")).to_have_text(re.compile(r"^1 of \d+ loaded$"))
        await press("k")
        await expect(page.locator("li.selected")).to_contain_text("lunch")
        await press("g")
        await press("o")
        await expect(card(page, "ASKS")).to_be_visible()
        assert page.complaints == []


async def test_a_timeline_pans_and_follows_the_present(browser, states):
    daemon, _, seeded = states
    async with browser_context(browser, **NOON) as context:
        page = await new_page(context)
        await page.goto(f"{daemon.url}/prd/SILENT?project=shop")
        timeline = page.get_by_role("region", name="Timeline")
        drawing = timeline.get_by_role("application")
        mark = timeline.locator("g[data-story=US-1] [data-seq]")
        follow = timeline.get_by_role("button", name="Follow now")

        async def stands_at(shown: float, moved: float = 0) -> bool:
            """Whether the test run stands where it must when this part of the run is shown, moved by a part of the width."""
            minutes = (datetime.now(UTC) - seeded) / timedelta(minutes=1)
            expected = 1 - (7.1 + minutes) / (30 + minutes) / shown + moved
            box, at = await drawing.bounding_box(), await mark.bounding_box()
            return abs((at["x"] + at["width"] / 2 - box["x"]) / box["width"] - expected) < 0.03

        await expect(mark).to_have_count(1)
        for _ in range(2):
            await timeline.get_by_role("button", name="Zoom in").click()
        latest = 0.6 * 0.6
        await expect(follow).to_have_attribute("aria-pressed", "true")
        assert await stands_at(latest)
        await drawing.press("ArrowLeft")
        await expect(follow).to_have_attribute("aria-pressed", "false")
        assert await stands_at(latest, 1 / 8)
        box = await drawing.bounding_box()
        await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + 10, steps=4)
        await page.mouse.up()
        assert await stands_at(latest, 1 / 8 + 1 / 4)
        assert page.url.endswith("?project=shop")  # a drag selects nothing
        await follow.click()
        await expect(follow).to_have_attribute("aria-pressed", "true")
        assert await stands_at(latest)
        await drawing.press("0")
        await expect(timeline.get_by_role("button", name="All")).to_be_disabled()
        assert await stands_at(1)
        assert page.complaints == []

"""The pages in a real browser, under the policy the daemon sends with them."""

import pytest
from playwright.async_api import async_playwright

from tests.live_server import LiveServer
from tests.requirements import find_chromium
from tests.support import eventually

pytestmark = pytest.mark.requires("chromium")
EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
async def server(home):
    live = LiveServer(home)
    await live.start()
    yield live
    await live.stop()


@pytest.fixture
async def page():
    """A page that notes whatever the browser complains about."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(find_chromium()), args=["--no-sandbox"])
        opened = await browser.new_page()
        opened.complaints = []
        opened.on("console", lambda message: message.type == "error" and opened.complaints.append(message.text))
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        yield opened
        await browser.close()


async def shows(page, selector, text):
    await eventually(lambda: _contains(page, selector, text), what=f"{text!r} in {selector}")


async def _contains(page, selector, text):
    return text in await page.inner_text(selector)


async def test_the_example_follows_over_socketio_and_resumes(server, page):
    await server.publish(3, prd_id="PRD-001")
    await page.goto(f"{server.url}/examples/websocket_client.html")
    await shows(page, "#state", "fresh")
    await server.publish(2, data={"text": EVIL}, prd_id="PRD-001")
    await eventually(lambda: _count(page, 5))
    await shows(page, "#events", EVIL)
    assert page.complaints == []
    await server.restart()
    await server.publish(2, prd_id="PRD-001")
    await eventually(lambda: _count(page, 7))
    await shows(page, "#state", "resumed")


async def test_the_example_filters(server, page):
    await server.publish(2, prd_id="A")
    await server.publish(2, "story.started", prd_id="B")
    await page.goto(f"{server.url}/examples/websocket_client.html")
    await eventually(lambda: _count(page, 4))
    await page.fill("input[name=prd]", "B")
    await page.fill("input[name=types]", "story.*")
    await page.click("button")
    await eventually(lambda: _count(page, 2))
    await server.publish(1, "story.completed", prd_id="B")
    await server.publish(1, "story.completed", prd_id="A")
    await eventually(lambda: _count(page, 3))
    assert page.complaints == []


async def test_a_code_from_the_command_line_lets_the_page_in(home, page):
    server = LiveServer(home, auth={"loopback": "token"})
    await server.start()
    try:
        await server.publish(1, prd_id="PRD-001", project="shop")
        await page.goto(server.url)
        await shows(page, "body", "claude-loop open")
        import asyncio

        from claude_loop.client import DaemonClient
        from claude_loop.paths import Home

        answer = await asyncio.to_thread(DaemonClient(Home(home)).post, "/api/session/code", {})
        await page.goto("about:blank")
        await page.goto(f"{server.url}/#{answer['code']}")
        await shows(page, "main", "PRD-001")
        assert "#" not in page.url
        await page.goto(f"{server.url}/examples/websocket_client.html")
        await eventually(lambda: _count(page, 1))
    finally:
        await server.stop()


async def _count(page, wanted):
    return await page.locator("#events li").count() == wanted

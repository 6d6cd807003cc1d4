"""The example pages in a real browser, under the policy the daemon sends with them."""

import pytest

from tests.live_server import LiveServer
from tests.support import eventually

pytestmark = pytest.mark.requires("chromium")
EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
async def server(home):
    async with LiveServer(home) as live:
        yield live


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


async def _count(page, wanted):
    return await page.locator("#events li").count() == wanted

"""What several end-to-end tests use: a browser."""

import pytest

from tests.requirements import find_chromium

# Beside the sandbox, which root cannot have: nothing that talks to the network by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def browser():
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=str(find_chromium()), args=ARGUMENTS)
        yield started
        await started.close()


@pytest.fixture
async def page(browser):
    """A page that notes whatever the browser complains about."""
    opened = await browser.new_page(viewport={"width": 1440, "height": 900})
    opened.complaints = []
    opened.on("console", lambda message: message.type == "error" and opened.complaints.append(message.text))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    return opened

"""A real browser before a real daemon: what the tests of the monitor share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.requirements import find_chromium
from tests.support import ROOT

AXE = ROOT / "tests/e2e/node/node_modules/axe-core/axe.min.js"
# Beside the sandbox, which root cannot have: nothing that talks to the network by itself.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
expect.set_options(timeout=30_000)


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(find_chromium()), args=list(FLAGS))
        yield browser
        await browser.close()


@asynccontextmanager
async def browser_context(browser: Browser, **options: object) -> AsyncIterator[BrowserContext]:
    """A fresh profile; ``options`` are Playwright's of a context."""
    context = await browser.new_context(**{"viewport": WIDE, **options})
    yield context
    await context.close()


async def new_page(context: BrowserContext) -> Page:
    """A page whose ``complaints`` are what the browser had to say against it: errors, refusals of the policy."""
    page = await context.new_page()
    page.complaints = []
    # A daemon that is down is what some tests are about; the browser's line about it is not a complaint.
    page.on(
        "console",
        lambda message: (
            message.type in ("error", "warning")
            and "ERR_CONNECTION_REFUSED" not in message.text
            and page.complaints.append(message.text)
        ),
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page


def emit(home: Path, script: str, project: str = "shop") -> None:
    """Run ``script`` with the bash emitter sourced, and wait until what it emitted is committed."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CLAUDE_LOOP_")}
    done = subprocess.run(
        ["bash", "-c", f"source bin/emit_progress.sh\n{script}\nemit_flush 20"],
        env=environ | {"CLAUDE_LOOP_HOME": str(home), "CLAUDE_LOOP_PROJECT": project},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def violations(page: Page) -> list[str]:
    """What axe finds wrong, one line each."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then(r => r.violations.map("
        "v => `${v.id}: ${v.nodes.map(n => n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).slice(0, 3).join('; ')}`))"
    )
    return list(found)


async def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window. The room that is kept for a scroll bar is not its own: there
    the root is as wide as the window, and its body is not."""
    return await page.evaluate("document.documentElement.scrollWidth - document.body.clientWidth")

"""Takes the README's picture of a loop that knows nothing of claude-loop: python docs/images/adopt.py

The loop, its agent and its plan are those of tests/e2e/adopt: a script of ralph's shape calls a stand-in for Claude
Code, whose hooks are installed, under `claude-loop run`. It is photographed at the last of three stories.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.e2e.adopt.night import STORIES, Night  # noqa: E402 - found by the line above
from tests.support import until  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="claude-loop-pictures-") as folder:
        night = Night(Path(folder) / "home", STAND_IN_HOLD_AT="US-003")
        try:
            night.daemon.start()
            night.begin()
            night.await_hold("tested")
            until(lambda: night.card()["counts"]["verified"] == 2 and night.card()["tests"] == 3, 30)
            photograph(night.daemon.url)
        finally:
            night.end()


def photograph(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 860}, color_scheme="light")
        page.goto(f"{url}/prd/checkout?project=shop")
        page.get_by_text(STORIES["US-003"]).first.wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(__file__).parent / "monitor-adopt.png")
        browser.close()


if __name__ == "__main__":
    main()

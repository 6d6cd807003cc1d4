"""Takes the README's pictures of the monitor: a daemon of its own, fed with a morning's work, shown in Chromium.

.venv/bin/python docs/images/monitor.py          # needs the built page and Chromium; writes monitor-*.png here
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
PORT = 18_791
URL = f"http://127.0.0.1:{PORT}"
WIDTH, HEIGHT = 1180, 640
MINUTE = 60.0
TITLES = {"US-001": "Cart totals", "US-002": "Tax by region", "US-003": "Guest checkout", "US-004": "Coupons"}


class Morning:
    """Events of several loops, told backwards from now: each says how many minutes ago it happened."""

    def __init__(self) -> None:
        self._now = time.time()
        self._told: list[tuple[float, dict[str, Any]]] = []

    def tell(self, ago: float, type_: str, prd: tuple[str, str], story: str | None = None, **data: Any) -> None:
        at = self._now - ago * MINUTE
        event = {"type": type_, "project": prd[0], "prd_id": prd[1], "story_id": story, "timestamp": at, "data": data}
        self._told.append((at, event))

    def story(self, prd: tuple[str, str], story: str, began: float, ended: float, *, proof: bool = True) -> None:
        """A story that fails its tests at first, then passes; without ``proof`` nothing is committed."""
        took = began - ended
        self.tell(began, "story.started", prd, story, title=TITLES.get(story, "More of the same"))
        failures = [{"name": "test_total"}]
        self.tell(began - took * 0.4, "test.run", prd, story, passed=11, failed=1, failures=failures)
        self.tell(began - took * 0.8, "test.run", prd, story, passed=12, failed=0)
        if proof:
            self.tell(began - took * 0.9, "commit.created", prd, story, commit_hash=f"{abs(hash(story)):x}"[:7])
        self.tell(ended, "story.completed", prd, story, success=True)

    def lines(self) -> bytes:
        return "\n".join(json.dumps(event) for _, event in sorted(self._told, key=lambda each: each[0])).encode()


def morning() -> bytes:
    told = Morning()
    shop, search, blog = ("shop", "SHOP-7"), ("shop", "SHOP-8"), ("blog", "PRD-001")
    told.tell(252, "prd.started", shop, total_stories=5, title="Checkout rewrite")
    for turn in range(1, 8):
        told.tell(251 - turn * 30, "iteration.started", shop, iteration=turn, max_iterations=20)
    told.story(shop, "US-001", 250, 200)
    told.story(shop, "US-002", 198, 150)
    told.tell(148, "agent.waiting", shop, reason="5 h limit", until=time.time() - 120 * MINUTE, **{"for": "rate_limit"})
    told.tell(120, "agent.resumed", shop)
    told.story(shop, "US-003", 118, 70, proof=False)
    for began in (65, 40):
        told.tell(began, "story.started", shop, "US-004", title=TITLES["US-004"])
        told.tell(began - 16, "test.run", shop, "US-004", passed=10, failed=2, failures=[{"name": "test_coupon"}])
    told.tell(12, "agent.waiting", shop, reason="permission Bash rm -rf build", **{"for": "human"})
    told.tell(300, "prd.started", blog, total_stories=3, title="Markdown importer")
    told.story(blog, "US-001", 299, 260)
    told.tell(258, "story.started", blog, "US-002", title="Footnotes")
    told.tell(210, "test.run", blog, "US-002", passed=31, failed=1, failures=[{"name": "test_nested_lists"}])
    told.tell(200, "prd.completed", blog, success=False)
    told.tell(49, "prd.started", ("infra", "NET-3"), total_stories=4, title="Move DNS to the new zone")
    told.story(("infra", "NET-3"), "US-001", 48, 7)
    told.tell(35, "prd.started", search, total_stories=5, title="Search that forgives typos")
    for number in range(3):
        told.story(search, f"US-00{number + 1}", 34 - number * 9, 26 - number * 9)
    told.tell(6, "story.started", search, "US-004", title="Umlauts")
    told.tell(0.2, "test.run", search, "US-004", passed=18, failed=0)
    for prd, title, proof in (("DOC-2", "Handbook in one voice", True), ("API-12", "Rate limits per key", False)):
        told.tell(180, "prd.started", ("docs", prd), total_stories=2, title=title)
        told.story(("docs", prd), "US-001", 179, 150)
        told.story(("docs", prd), "US-002", 149, 120, proof=proof)
        told.tell(119, "prd.completed", ("docs", prd), success=True)
    return told.lines()


def feed() -> None:
    kind = {"Content-Type": "application/x-ndjson"}
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{URL}/api/events", morning(), kind)).close()  # noqa: S310
        except OSError:  # not up yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def shoot() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for theme in ("light", "dark"):
            size = {"width": WIDTH, "height": HEIGHT}
            page = browser.new_page(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
            page.goto(URL)
            page.get_by_role("article").first.wait_for()
            page.screenshot(path=HERE / f"monitor-{theme}.png")
            page.close()
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"CLAUDE_LOOP_HOME": home}
        line = [sys.executable, "-m", "claude_loop", "serve", "--port", str(PORT)]
        daemon = subprocess.Popen(line, env=environment, cwd=HERE.parent.parent)  # noqa: S603
        try:
            feed()
            shoot()
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()

"""Takes the README's pictures of the monitor: python docs/images/monitor.py

Starts a daemon of its own in a temporary directory, tells it the story of one night, and photographs the page in
Chromium. The events carry the times at which they would have happened; everything else is what a user sees.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
NOW = datetime.now(UTC)
MINUTES_A_STORY = 24


def told(
    prd: str, project: str, minutes_ago: float, kind: str, story: str | None = None, **data: Any
) -> dict[str, Any]:
    at = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    ids = {"prd_id": prd, "project": project, "story_id": story}
    return {"type": kind, "timestamp": at, "data": data, **{key: value for key, value in ids.items() if value}}


def done(
    prd: str, project: str, ago: float, story: str, title: str, subject: str, *, tries: int = 1
) -> Iterator[dict[str, Any]]:
    """A story that ends verified ``ago`` minutes ago, after ``tries`` attempts."""
    step = MINUTES_A_STORY / tries
    for attempt in range(tries):
        start = ago + MINUTES_A_STORY - attempt * step
        yield told(prd, project, start, "story.started", story, title=title)
        if attempt < tries - 1:
            names = [{"name": "test_rounding"}]
            yield told(prd, project, start - step * 0.7, "test.run", story, passed=9, failed=1, failures=names)
            yield told(prd, project, start - step * 0.9, "story.completed", story, success=False)
    yield told(prd, project, ago + 3, "test.run", story, passed=12, failed=0)
    commit = f"{crc32((story + subject).encode()):08x}"[:7]
    yield told(prd, project, ago + 1, "commit.created", story, commit_hash=commit, subject=subject)
    yield told(prd, project, ago, "story.completed", story, success=True)


def night() -> list[dict[str, Any]]:
    shop, api, blog, docs = ("SHOP-7", "shop"), ("API-12", "gateway"), ("BLOG-3", "blog"), ("DOCS-2", "docs")
    coupon = [{"name": "test_coupon"}, {"name": "test_expired_coupon"}]
    events = [
        told(*shop, 130, "prd.started", title="Checkout rewrite", total_stories=5),
        *done(*shop, 100, "US-001", "Cart totals", "Cart totals"),
        *done(*shop, 66, "US-002", "Shipping costs", "Shipping costs by weight", tries=2),
        *done(*shop, 34, "US-003", "Receipts", "Receipts as PDF"),
        told(*shop, 32, "story.started", "US-004", title="Coupons"),
        told(*shop, 20, "test.run", "US-004", passed=10, failed=2, failures=coupon),
        told(*shop, 19, "story.completed", "US-004", success=False),
        told(*shop, 18, "story.started", "US-004", title="Coupons"),
        told(*shop, 17.5, "iteration.started", iteration=7, max_iterations=20),
        told(*shop, 14, "test.run", "US-004", passed=11, failed=1, failures=coupon[:1]),
        told(*shop, 12, "agent.waiting", **{"for": "human", "reason": "permission Bash rm -rf build"}),
        told(*api, 75, "prd.started", title="Rate limits", total_stories=4),
        *done(*api, 44, "US-001", "Token bucket", "Token bucket"),
        *done(*api, 16, "US-002", "Headers", "Tell clients what is left"),
        told(*api, 15, "story.started", "US-003", title="Burst tests"),
        told(*api, 2, "test.run", "US-003", passed=31, failed=0),
        told(*blog, 96, "prd.started", title="Search in posts", total_stories=3),
        *done(*blog, 60, "US-001", "Index", "Index posts"),
        told(*blog, 58, "story.started", "US-002", title="Ranking"),
        told(*blog, 43, "error.occurred", "US-002", error="npm ERR! network"),
        told(*blog, 42, "prd.completed", success=False),
        told(*docs, 58, "prd.started", title="Reference pages", total_stories=1),
        *done(*docs, 30, "US-001", "Settings", "Generate the settings page"),
        told(*docs, 29, "prd.completed", success=True),
    ]
    return sorted(events, key=lambda event: event["timestamp"])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="claude-loop-pictures-") as folder:
        home = Path(folder) / "home"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAUDE_LOOP_")}
        environment |= {"CLAUDE_LOOP_HOME": str(home), "PYTHONPATH": str(ROOT)}
        daemon = subprocess.Popen([sys.executable, "-m", "claude_loop", "serve", "--port", "0"], env=environment)
        try:
            url = wait_for(home / "daemon.json")
            for event in night():
                body = json.dumps(event).encode()
                request = urllib.request.Request(f"{url}/api/events", body, {"Content-Type": "application/json"})
                urllib.request.urlopen(request).close()
            photograph(url)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()


def wait_for(note: Path) -> str:
    while not note.exists():
        time.sleep(0.1)
    return json.loads(note.read_bytes())["url"]


def photograph(url: str) -> None:
    pictures = Path(__file__).parent
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for name, path, theme, height in (
            ("overview", "/", "light", 560),
            ("prd", "/prd/SHOP-7?project=shop", "dark", 820),
        ):
            page = browser.new_page(viewport={"width": 1200, "height": height}, color_scheme=theme)
            page.goto(url + path)
            page.get_by_text("Coupons").first.wait_for()
            page.wait_for_timeout(1000)
            page.screenshot(path=pictures / f"monitor-{name}.png")
        browser.close()


if __name__ == "__main__":
    main()

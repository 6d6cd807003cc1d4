"""How quick the monitor is, in Chromium on a real daemon: `.venv/bin/python bench/monitor.py [EVENTS] [SECONDS]`.

Prints: first paint after the HTML arrived; from a call of the bash emitter to the painted card; long tasks and memory while
1,000 events/s arrive for SECONDS (60); the time a jump in a replay of EVENTS (100,000) takes until it is painted. The
page must have been built. Close other programs: it measures a page on the machine's cores, and so does everything else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from claude_loop.clock import SystemClock  # noqa: E402 - from the clone, wherever this is started
from claude_loop.events import Event  # noqa: E402 - from the clone, wherever this is started
from claude_loop.progress.patches import PatchMaker  # noqa: E402 - from the clone, wherever this is started
from tests.e2e.daemon import Daemon  # noqa: E402 - from the clone, wherever this is started
from tests.requirements import find_chromium  # noqa: E402 - from the clone, wherever this is started

CALLS = 60
JUMPS = 60
RATE = 1000
BATCH = 100
PAINTED = "new Promise(done => requestAnimationFrame(() => { const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0); }))"
WATCH_TASKS = "globalThis.tasks = []; new PerformanceObserver(list => tasks.push(...list.getEntries().map(each => Math.round(each.duration)))).observe({ type: 'longtask' })"
WATCH_CARD = """() => { globalThis.painted = {}; new MutationObserver(() => { const said = document.querySelector('article')?.textContent.match(/test (\\d+) ✓/)?.[1];
  if (said) requestAnimationFrame(() => painted[said] ??= Date.now()); }).observe(document.body, { subtree: true, childList: true, characterData: true }) }"""
JUMP = f"""async () => {{ const slider = document.querySelector('input[type=range]'), took = [];
  for (let n = 0; n < {JUMPS}; n++) {{ const began = performance.now();
    slider.value = +slider.min + (slider.max - slider.min) * ((n * 37) % {JUMPS}) / {JUMPS}; slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
    await {PAINTED}; took.push(performance.now() - began); }} return took; }}"""


def row(name: str, values: list[float]) -> None:
    ordered = sorted(values)
    print(
        f"{name:38} p50 {statistics.median(ordered):7.1f} ms   p99 {ordered[int(len(ordered) * 0.99)]:7.1f} ms   n {len(ordered)}"
    )


def first_paint(page: Page, url: str) -> None:
    values = []
    for _ in range(10):
        page.goto(url)
        page.wait_for_timeout(600)
        values.append(
            page.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime - performance.getEntriesByType('navigation')[0].responseEnd"
            )
        )
    row("first paint after the HTML", values)


def bash_to_paint(page: Page, daemon: Daemon) -> None:
    script = f"source {ROOT}/bin/emit_progress.sh; emit_prd_started SHOP-7 1; while read n; do emit_test_run SHOP-7 US-001 $n 0; done"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, env=daemon.environ, text=True) as bash:
        assert bash.stdin is not None
        page.goto(daemon.url)
        page.wait_for_selector("article")
        page.evaluate(WATCH_CARD)
        sent = {}
        for number in range(1, CALLS + 1):
            sent[str(number)] = time.time() * 1000
            bash.stdin.write(f"{number}\n")
            bash.stdin.flush()
            page.wait_for_timeout(120)
        page.wait_for_timeout(500)
        bash.stdin.close()
    painted = page.evaluate("painted")
    row("bash call to painted card", [at - sent[number] for number, at in painted.items()])


def feed(url: str, seconds: float) -> None:
    events = [{"type": "test.run" if n % 7 == 0 else "log.message", "project": "load", "prd_id": f"L-{n % 5}", "story_id": f"US-{n % 40:03d}",
               "data": {"passed": 3, "failed": n % 2} if n % 7 == 0 else {"level": "info", "message": "x"}} for n in range(BATCH)]  # fmt: skip
    body = "\n".join(map(json.dumps, events)).encode()
    began = time.monotonic()
    for number in range(int(seconds * RATE / BATCH)):
        urllib.request.urlopen(
            urllib.request.Request(f"{url}/api/events", body, {"Content-Type": "application/x-ndjson"})
        ).close()
        time.sleep(max(0.0, began + (number + 1) * BATCH / RATE - time.monotonic()))


def under_load(page: Page, url: str, seconds: float) -> None:
    for path in ("/", "/prd/L-1?project=load"):
        feed(url, 2)
        page.goto(url + path)
        page.wait_for_timeout(2000)
        page.evaluate(WATCH_TASKS)
        before = page.evaluate("performance.memory.usedJSHeapSize")
        feeder = threading.Thread(target=feed, args=(url, seconds))
        feeder.start()
        page.wait_for_timeout(seconds * 1000)
        feeder.join()
        tasks, after = page.evaluate("tasks"), page.evaluate("performance.memory.usedJSHeapSize")
        print(
            f"{f'{RATE} events/s on {path[:6]}, {seconds:g} s':38} {len(tasks)} long tasks, longest {max(tasks, default=0)} ms; heap {before / 1e6:.0f} to {after / 1e6:.0f} MB"
        )


def replay(page: Page, events: int, folder: Path) -> None:
    maker, patches, stories = PatchMaker(300_000), [], 60
    began = SystemClock().now_us() // 1000 - events * 300
    for n in range(events):
        part, story = n % (events // stories), f"US-{n // (events // stories):03d}"
        type_, data = ("log.message", {"level": "info", "message": "m"})
        if n == 0:
            type_, data = "prd.started", {"total_stories": stories}
        elif part in {1, events // stories - 1}:
            type_, data = ("story.started", {}) if part == 1 else ("story.completed", {"success": n % 3 > 0})
        elif part % 50 == 0:
            type_, data = "test.run", {"passed": 12, "failed": part % 100 // 50}
        at = began + n * 300
        patches += maker.event(
            Event(
                type_,
                data,
                id=str(n),
                project="shop",
                prd_id="BIG-1",
                story_id=story if n else None,
                at=at,
                received_at=at,
                seq=n + 1,
            )
        )
    held = {
        "prd": "BIG-1",
        "title": None,
        "project": "shop",
        "exported_at": began,
        "version": "",
        "documents": {},
        "patches": patches,
        "events": [],
    }
    built = (ROOT / "claude_loop" / "web" / "dist" / "export.html").read_text()
    file = folder / "replay.html"
    file.write_text(built.replace('"__CLAUDE_LOOP_REPLAY__"', json.dumps(held)))
    page.goto(file.as_uri())
    page.wait_for_selector("input[type=range]")
    page.wait_for_timeout(3000)
    row(f"jump in a replay of {events:,} events", page.evaluate(JUMP))


def main(events: int = 100_000, seconds: float = 60) -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        daemon = Daemon(Path(name) / "home")
        daemon.start()
        try:
            browser = playwright.chromium.launch(
                executable_path=str(find_chromium()), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            bash_to_paint(page, daemon)
            first_paint(page, daemon.url)
            under_load(page, daemon.url, seconds)
            replay(page, events, Path(name))
            browser.close()
        finally:
            daemon.stop()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))

"""What becomes of starting, reading and writing as the log grows, and what a daemon costs while nothing happens.

    python bench/growth.py [--sizes 10000,100000,1000000,10000000] [--idle-seconds 20]

Method. The log is filled by its own `append` with the read model: runs of a thousand events and forty stories each,
250 PRDs in 20 projects. At each size a daemon of its own is started on it. Ready: from the start of the process until
`/health` answers 200, the best of four starts (the first one after the file was written is not counted). Then, with the
search index caught up: the data of one PRD, the newest hundred events, and the first page of a search for a frequent
and for a rare word (medians of 15 requests on one connection, at most one of them the first of its kind); a reader that
has missed the newest 10,000 events (SSE), which the daemon has to read from the file, for it has just been started (the
best of five); and 20,000 events more as NDJSON, the better of two. The sizes are minutes apart, in which the machine may
grow slower or quicker: so a copy of the smallest log is kept, and what storing an event costs at the largest size is
measured again at the end, by turns with the smallest, 2,000 events at a time. Idle: the resident set and the processor
time over some seconds in which nobody asks for anything, at the largest size.

Limit. Ready is nearly all processor time, spent by the interpreter and its imports: the smallest log takes as long as the
largest. Idle: a daemon takes 70 MB when it has started, and 80 idle at a million events. What comes above that at ten
million was not taken apart; pruning is not it (of 200,000 events 80,000 too many: 2 MB). One that has just stored tens of
thousands keeps the newest 16,384 for readers at the live edge: 107 MB, of which the JSON of those is 7.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ingest import ndjson
from resume import sse
from serving import Served, machine, percentile, row, serving

RUN_EVENTS = 1_000
STORY_EVENTS = 25
STARTS = 5
SETTLE_SECONDS = 5
MISSED = 10_000
WRITTEN = 20_000
TURNS, TURN = 9, 2_000
DATA = {
    "story.started": {"status": "in_progress"},
    "test.run": {"passed": 12, "failed": 0, "total": 12, "duration_ms": 1843, "command": "python -m unittest -q"},
    "commit.created": {"commit_hash": "abc123def456", "subject": "Cart totals"},
    "story.completed": {"success": True, "status": "completed"},
    "log.message": {"level": "info", "message": "reading the tests of the cart"},
    "prd.started": {"status": "running", "total_stories": RUN_EVENTS // STORY_EVENTS},
    "prd.completed": {"success": True, "status": "completed"},
}
_OF_STEP = {0: "story.started", 22: "test.run", 23: "commit.created", 24: "story.completed"}


def runs(events: int, first_run: int = 0) -> Iterator[list]:
    """Runs of a thousand events, as intake hands them over, the last one finished now."""
    from claude_loop.events import Event

    now_ms = time.time_ns() // 1_000_000
    for run in range(first_run, first_run + events // RUN_EVENTS):
        made = []
        for n in range(RUN_EVENTS):
            type_ = {0: "prd.started", RUN_EVENTS - 1: "prd.completed"}.get(n) or _OF_STEP.get(n % STORY_EVENTS)
            type_ = type_ or "log.message"
            data = DATA[type_]
            if n == RUN_EVENTS // 2 + 1:
                data = {"level": "info", "message": f"run {run} found pomegranate{run % 97}"}
            of_run = type_.startswith("prd.")
            made.append(
                Event(
                    type_,
                    data,
                    id=f"{now_ms * 1000 + run}-{run + 1}-00000000.{n + 1}",
                    project=f"project-{run % 20}",
                    prd_id=f"PRD-{run % 250:03d}",
                    story_id=None if of_run else f"US-{n // STORY_EVENTS:03d}",
                    source="bash",
                    at=now_ms - (events - (run - first_run) * RUN_EVENTS - n) * 10,
                )
            )
        yield made


async def fill(home: Path, events: int, first_run: int = 0) -> dict:
    """Add so many events to a log that no daemon has open."""
    from claude_loop.eventlog.base import nobody
    from claude_loop.eventlog.sqlite import SqliteEventLog
    from claude_loop.paths import Home
    from claude_loop.progress.projection import ProgressProjection

    Home(home).prepare()
    # What it costs to fill it is not measured.
    log = SqliteEventLog(Home(home).database, ProgressProjection(), durability="normal")
    await log.open(nobody)
    for made in runs(events, first_run):
        await log.append(made)
    held = await log.statistics()
    await log.close()
    print(f"{held['events']:,} events, {held['bytes'] / 1e6:.0f} MB")
    return held


def ready(home: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor; each the least of the starts."""
    seconds, computed = [], []
    for _ in range(STARTS):
        with serving(home) as served:
            seconds.append(served.ready_seconds)
            computed.append(served.cpu_seconds())
    return min(seconds[1:]), min(computed[1:])


class Asking:
    """One connection to the daemon."""

    def __init__(self, served: Served) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)

    def get(self, path: str) -> dict:
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
        return json.loads(body)

    def median_ms(self, path: str) -> float:
        times = []
        for _ in range(15):
            began = time.perf_counter()
            self.get(path)
            times.append((time.perf_counter() - began) * 1000)
        return percentile(times, 0.5)

    def cursor_back(self, events: int) -> str:
        """The cursor that so many events follow; a whole number of pages."""
        before = ""
        for _ in range(events // 1000):
            before = f"&before={self.get(f'/api/events?order=desc&limit=1000{before}')['cursor']}"
        return before.partition("=")[2]

    def until_indexed(self) -> None:
        while True:
            found = self.get("/api/search?q=cart&limit=1")
            if found["indexed_upto"] == found["head"]:
                return
            time.sleep(0.2)


def measured(served: Served) -> dict[str, float]:
    """What one size is asked for: milliseconds, and events a second."""
    asking = Asking(served)
    asking.until_indexed()
    figures = {
        "prd": asking.median_ms("/api/prds/PRD-003?project=project-3"),
        "newest": asking.median_ms("/api/events?order=desc&limit=100"),
        "frequent": asking.median_ms("/api/search?q=cart"),
        "rare": asking.median_ms("/api/search?q=pomegranate7"),
    }
    missed = asking.cursor_back(MISSED)
    figures["resume"] = min(sse(served, missed, MISSED)[0] for _ in range(5)) * 1000
    figures["ingest"] = max(ndjson(served, WRITTEN) for _ in range(2))
    return figures


def cost_beside(small: Path, large: Path) -> float:
    """What an event costs in the large log, in times of what it costs in the small one: the median of the turns."""
    with serving(small) as of_small, serving(large) as of_large:
        for served in (of_small, of_large):
            Asking(served).until_indexed()
            ndjson(served, TURN)
        return statistics.median(ndjson(of_small, TURN) / ndjson(of_large, TURN) for _ in range(TURNS))


def idle(home: Path, seconds: int) -> tuple[float, float]:
    """MB, and the share of a core."""
    with serving(home) as served:
        Asking(served).until_indexed()
        time.sleep(SETTLE_SECONDS)
        before = served.cpu_seconds()
        time.sleep(seconds)
        return served.rss_mb(), (served.cpu_seconds() - before) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000,10000000", help="numbers, with commas between")
    parser.add_argument("--idle-seconds", type=int, default=20)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    print(f"growth: {machine()}\n")
    found: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as folder:
        home = Path(folder) / "home"
        stored = first_run = 0
        for size in sizes:
            filled = asyncio.run(fill(home, size - stored, first_run))
            first_run += (size - stored) // RUN_EVENTS
            stored = size + 2 * WRITTEN
            seconds, computed = ready(home)
            if size == sizes[0]:
                shutil.copytree(home, home.with_name("smallest"))
            with serving(home) as served:
                found[size] = {"ready": seconds, "computed": computed, **measured(served)}
        cost = cost_beside(home.with_name("smallest"), home)
        memory, share = idle(home, arguments.idle_seconds)
    row("bytes of events.db for an event", f"{filled['bytes'] / filled['events']:.0f}")
    report(found)
    row(
        "NDJSON by turns: an event at the largest size against the smallest",
        f"{cost:.2f} ×",
        "≤ 1.5 ×",
        reached=cost <= 1.5,
    )
    row("memory while idle", f"{memory:.0f} MB", "≤ 85 MB", reached=memory <= 85)
    row(f"processor time while idle, over {arguments.idle_seconds} s", f"{share:.2%}", "≤ 0.3%", reached=share <= 0.003)


def report(found: dict[int, dict[str, float]]) -> None:
    smallest, largest = min(found), max(found)

    def line(title: str, key: str, shown: Callable[[float], str], target: str = "", most: float | None = None) -> None:
        for size, figures in found.items():
            value = figures[key]
            judged = None if most is None or size != largest else value <= most
            row(f"{title}, {size:,} events", shown(value), target if size == largest else "", reached=judged)

    line("ready", "ready", lambda s: f"{s:.2f} s", "≤ 1.2 s", 1.2)
    line("  of which the processor worked", "computed", lambda s: f"{s:.2f} s")
    line("data of a PRD", "prd", lambda ms: f"{ms:.1f} ms", "≤ 50 ms", 50)
    line("the newest hundred events", "newest", lambda ms: f"{ms:.1f} ms")
    line("search for a frequent word, first page", "frequent", lambda ms: f"{ms:.1f} ms", "≤ 200 ms", 200)
    line("search for a rare word, first page", "rare", lambda ms: f"{ms:.1f} ms", "≤ 200 ms", 200)
    line(f"{MISSED:,} missed events by SSE", "resume", lambda ms: f"{ms:.0f} ms")
    line("NDJSON", "ingest", lambda rate: f"{rate:,.0f} events/s")
    later = found[largest]["resume"] / found[smallest]["resume"]
    row(
        "missed events by SSE: at the largest size against the smallest",
        f"{later:.2f} ×",
        "≤ 1.5 ×",
        reached=later <= 1.5,
    )


if __name__ == "__main__":
    main()

"""What folding one event into the read model costs, in microseconds.

Method: five PRDs of twenty stories, a mix of work and chatter as a loop with hooks gives it, folded by the projection
through the cache that the log's writer uses, in commits of several sizes; the best of some rounds. Beside it, for
the machine's sake, what parsing and writing one such event as JSON costs in the same run.

    python bench/reducer.py [EVENTS]
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claude_loop.eventlog.numbering import EntityCache
from claude_loop.events import Event
from claude_loop.progress.projection import ProgressProjection

ROUNDS = 7
FAILURES = [{"name": "test_total"}, {"name": "test_coupon"}]
# One story's way: type, how often, data.
STORY = [
    ("iteration.started", 1, {"iteration": 3, "max_iterations": 20}),
    ("story.started", 1, {"status": "in_progress"}),
    ("log.message", 6, {"level": "info", "message": "reading the tests of the cart"}),
    ("tool.completed", 3, {"name": "Bash", "duration_ms": 120}),
    ("progress.updated", 4, {"current": 1, "total": 4}),
    ("test.run", 1, {"passed": 10, "failed": 2, "total": 12, "failures": FAILURES}),
    ("test.run", 1, {"passed": 12, "failed": 0, "total": 12}),
    ("commit.created", 1, {"commit_hash": "abc123def456", "subject": "Cart totals"}),
    ("story.completed", 1, {"success": True, "status": "completed"}),
]


def mixed(events: int, prds: int = 5, stories: int = 20) -> list[Event]:
    made: list[Event] = []

    def add(type_: str, prd: int, story: int | None, data: dict) -> None:
        at = 1_769_428_800_000 + 50 * len(made)
        seq = len(made) + 1
        names = {"prd_id": f"PRD-{prd:03d}", "story_id": None if story is None else f"US-{story:03d}"}
        made.append(
            Event(type_, data, id=f"e{seq}", project="shop", source="bash", at=at, received_at=at, seq=seq, **names)
        )

    for prd in range(prds):
        add("prd.started", prd, None, {"status": "running", "total_stories": stories})
    worked = 0
    while len(made) < events:
        for type_, times, data in STORY:
            for _ in range(times):
                add(type_, worked % prds, worked // prds % stories, data)
        worked += 1
    return made


def fold(events: list[Event], commit: int) -> None:
    cache, projection = EntityCache(lambda _: None), ProgressProjection()
    for event in events:
        event.run_id = None
    for start in range(0, len(events), commit):
        projection.apply(events[start : start + commit], cache)
        cache.folded()


def best_us(work: Callable[[], object], events: int) -> float:
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times) / events * 1e6


def main() -> None:
    events = mixed(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
    lines = [orjson.dumps(event.as_dict()) for event in events]
    for commit in (1, 16, 256, 1024):
        cost = best_us(lambda commit=commit: fold(events, commit), len(events))
        print(f"fold into the read model, {commit:4} a commit  {cost:6.2f} µs an event")
    print(
        f"parse as JSON                            {best_us(lambda: [orjson.loads(line) for line in lines], len(events)):6.2f} µs"
    )
    print(
        f"write as JSON                            {best_us(lambda: [orjson.dumps(e.as_dict()) for e in events], len(events)):6.2f} µs"
    )


if __name__ == "__main__":
    main()

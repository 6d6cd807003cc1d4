"""The daemon under test: `python -m tests.prove.serve PLAN serve …`, the real one with what PLAN says done to it first.

PLAN is JSON: ``die_at`` (a label) with ``hit``, ``mutant``, ``quick`` (files leave the spool, and events the log,
sooner than they do in earnest), ``clock_file`` (seconds to add to the wall clock, read anew each time), ``heap_file``
(where to tell what lives in memory, when signalled).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.prove import heap, labels, mutants
from tests.prove.mutants import on_opening


def hurry() -> None:
    """So that a scenario of seconds meets every step."""
    from claude_loop.eventlog import checkpoints, retention
    from claude_loop.intake import spool_drain, spool_leaving

    spool_leaving.QUIET_GONE = spool_leaving.QUIET_ALIVE = spool_leaving.QUIET_UNKNOWN = 0.05
    spool_leaving.SETTLE_SECONDS = 0.3
    spool_drain.LOOK_SECONDS = 0.05
    retention.ROUND_SECONDS = 0.2
    retention.STEP_EVENTS = 50
    # A checkpoint every few commits, beside the writer and by itself: the database file is written to as well.
    checkpoints.DUE_PAGES = 30
    on_opening("PRAGMA wal_autocheckpoint = 60")


def move_clock(file: Path) -> None:
    from claude_loop.clock import SystemClock

    def now_us(_clock: SystemClock) -> int:
        return time.time_ns() // 1000 + int(float(file.read_text()) * 1e6)

    SystemClock.now_us = now_us  # type: ignore[method-assign]


def main(plan: dict[str, Any], arguments: list[str]) -> None:
    if plan.get("quick"):
        hurry()
    if "clock_file" in plan:
        move_clock(Path(plan["clock_file"]))
    if "heap_file" in plan:
        heap.tell_on_signal(Path(plan["heap_file"]))
    if "mutant" in plan:
        mutants.apply(plan["mutant"])
    if "die_at" in plan:
        labels.install(labels.Killer(plan["die_at"], plan.get("hit", 1), plan.get("pause", 0.05)))
    sys.argv = ["claude-loop", *arguments]
    from claude_loop.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])

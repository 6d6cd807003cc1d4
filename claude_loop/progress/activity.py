"""What an event proves about its run: work, a sign of life, or nothing at all."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from claude_loop.events import RESERVED

# `work` ends a wait; `life` only ends silence; `none` is said about the run, not by it.
Activity = Literal["work", "life", "none"]

# What the daemon, a person or an alert says about a run does not show that the run is alive.
_ABOUT_THE_RUN = frozenset({"system", "control", "alert"})
# A loop that waits may still log, report an error or send events of its own; it does not start stories or run tests.
_WORK = frozenset(
    {
        "prd",
        "run",
        "iteration",
        "story",
        "test",
        "commit",
        "progress",
        "tool",
        "prompt",
        "subagent",
        "task",
        "verification",
    }
)


@lru_cache(4096)
def activity_of(event_type: str) -> Activity:
    if event_type in RESERVED:  # somebody tidies up
        return "none"
    family = event_type.partition(".")[0]
    if family in _ABOUT_THE_RUN:
        return "none"
    return "work" if family in _WORK else "life"

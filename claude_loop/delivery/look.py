"""One look at the read model: what holds of some PRDs now, and what the channels are to do with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from claude_loop.delivery.conditions import Condition, conditions_of, next_look_at
from claude_loop.delivery.dispatch import Target
from claude_loop.delivery.messages import Plan
from claude_loop.delivery.outbox import FRESH_MS, MAX_AGE_MS
from claude_loop.eventlog.base import DocumentsAtOnce
from claude_loop.filters import glob_to_regex
from claude_loop.progress.documents import PrdDocument, RunDocument
from claude_loop.progress.keys import PRDS, prd_key, run_key

Prd = tuple[str | None, str]
_ENDS = frozenset({"failed", "done"})
# What is found out by itself, such as the last story that passes, is told a moment after the end; the words count it.
AFTER_END_MS = 600


class Seen(NamedTuple):
    """``due`` has for each PRD that is there when time alone will change it, or None."""

    conditions: list[Condition]
    due: dict[Prd, int | None]
    forgotten: list[Prd]


def look(stored: DocumentsAtOnce, touched: dict[Prd, set[str]], now_ms: int, stalled_after_ms: int) -> Seen:
    """``touched``: PRDs with the keys of runs to look at besides the latest. Runs in a thread of the log."""
    seen = Seen([], {}, [])
    for prd_id, keys in touched.items():
        prd = cast("PrdDocument | None", stored.get(prd_key(*prd_id)))
        if prd is None:
            seen.forgotten.append(prd_id)
            continue
        latest = run_key(prd["project"], prd["prd_id"], prd["run_id"])
        seen.due[prd_id] = None
        for key in sorted(keys | {latest}):
            run = cast("RunDocument | None", stored.get(key))
            if run is None:
                continue
            seen.conditions.extend(conditions_of(prd, run, now_ms, stalled_after_ms).values())
            if key == latest:
                seen.due[prd_id] = next_look_at(run, now_ms, stalled_after_ms)
    return seen


def unfinished(stored: DocumentsAtOnce) -> list[Prd]:
    """The PRDs whose latest run has not finished: these may change by time alone, or wait since before."""
    found = []
    for prd in stored.under(PRDS).values():
        run: dict[str, Any] | None = stored.get(run_key(prd["project"], prd["prd_id"], prd["run_id"]))
        if run is not None and run["finished_at"] is None:
            found.append((prd["project"], prd["prd_id"]))
    return found


def everything(stored: DocumentsAtOnce) -> list[Prd]:
    return [(prd["project"], prd["prd_id"]) for prd in stored.under(PRDS).values()]


class Policy:
    """Which targets hear of a condition, and when."""

    def __init__(self, targets: Iterable[Target], begun: dict[str, int]) -> None:
        self._targets = list(targets)
        self._begun = begun
        self._projects = {target.name: glob_patterns(target.settings.projects) for target in self._targets}

    def plans(self, condition: Condition, now_ms: int) -> list[Plan]:
        return [
            Plan(target.name, _due_at(target, condition, now_ms))
            for target in self._targets
            if self._wants(target, condition, now_ms)
        ]

    def _wants(self, target: Target, condition: Condition, now_ms: int) -> bool:
        if condition.kind not in target.settings.kinds:
            return False
        if condition.since < max(self._begun[target.name] - FRESH_MS, now_ms - MAX_AGE_MS):
            return False  # old when the channel was set up, or nobody's concern any more
        patterns = self._projects[target.name]
        return not patterns or any(pattern.fullmatch(condition.project or "") for pattern in patterns)


def _due_at(target: Target, condition: Condition, now_ms: int) -> int:
    """What has come to its end is not undone by waiting longer."""
    if condition.kind in _ENDS:
        return max(now_ms, condition.since) + AFTER_END_MS
    return max(now_ms, condition.since + round(target.settings.grace * 1000))


def glob_patterns(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(glob_to_regex(glob)) for glob in globs]

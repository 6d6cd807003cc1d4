"""One look at the read model: what holds of some PRDs and agents now, and what the channels are to do with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from claude_loop.delivery.conditions import ENDS, Condition, Subject, conditions_of, conditions_of_agent, next_look_at
from claude_loop.delivery.dispatch import Target
from claude_loop.delivery.messages import Plan
from claude_loop.delivery.outbox import FRESH_MS, MAX_AGE_MS
from claude_loop.eventlog.base import DocumentsAtOnce
from claude_loop.events import Event
from claude_loop.filters import glob_to_regex
from claude_loop.progress.documents import PrdDocument, RunDocument
from claude_loop.progress.keys import AGENTS, PRDS, run_key
from claude_loop.progress.passing import next_change_of_session, shown_session
from claude_loop.progress.session_documents import SessionDocument

# What is found out by itself, such as the last story that passes, is told a moment after the end; the words count it.
AFTER_END_MS = 600
# What is settled without anybody, such as a permission that a rule gives, is settled by then; and a person who is
# needed hears of it within two seconds. Limits come and go by themselves.
SHORT_GRACE_MS = 500
_GRACE_MS = {"rate_limited": 20_000}


class Seen(NamedTuple):
    """``due`` has for each subject that is there when time alone will change it, or None. Of those ``given_up`` it is
    silence alone that says that nothing holds any more."""

    conditions: list[Condition]
    due: dict[Subject, int | None]
    forgotten: list[Subject]
    given_up: list[Subject]


def subject_of(event: Event) -> Subject | None:
    """Whom an event may say something new about."""
    if event.type.startswith("alert.") or (event.prd_id is None and event.session_id is None):
        return None
    return Subject(event.project, event.prd_id, event.session_id if event.prd_id is None else None)


def look(stored: DocumentsAtOnce, touched: dict[Subject, set[str]], now_ms: int, stalled_after_ms: int) -> Seen:
    """``touched``: subjects, PRDs with the keys of runs to look at besides the latest. Runs in a thread of the log."""
    seen = Seen([], {}, [], [])
    for subject, keys in touched.items():
        document: Any = stored.get(subject.key)
        if document is None:
            seen.forgotten.append(subject)
        elif subject.prd_id is None:
            _look_at_agent(document, subject, seen, now_ms)
        else:
            found, due = _look_at_prd(stored, document, keys, now_ms, stalled_after_ms)
            seen.conditions.extend(found)
            seen.due[subject] = due
    return seen


def _look_at_prd(
    stored: DocumentsAtOnce, prd: PrdDocument, keys: set[str], now_ms: int, stalled_after_ms: int
) -> tuple[list[Condition], int | None]:
    latest = run_key(prd["project"], prd["prd_id"], prd["run_id"])
    found: list[Condition] = []
    due = None
    for key in sorted(keys | {latest}):
        run = cast("RunDocument | None", stored.get(key))
        if run is None:
            continue
        found.extend(conditions_of(prd, run, now_ms, stalled_after_ms).values())
        if key == latest:
            due = next_look_at(run, now_ms, stalled_after_ms)
    return found, due


def _look_at_agent(session: SessionDocument, subject: Subject, seen: Seen, now_ms: int) -> None:
    seen.conditions.extend(conditions_of_agent(session, now_ms))
    # Of one that waits for nobody time changes nothing that is told.
    seen.due[subject] = None if session["waiting"] is None else next_change_of_session(session, now_ms)
    if session["ended_at"] is None and shown_session(session, now_ms)["ended_at"] is not None:
        seen.given_up.append(subject)


def unfinished(stored: DocumentsAtOnce) -> list[Subject]:
    """The PRDs whose latest run has not finished and the agents that wait: these may change by time alone, or wait
    since before."""
    found = []
    for prd in stored.under(PRDS).values():
        run: dict[str, Any] | None = stored.get(run_key(prd["project"], prd["prd_id"], prd["run_id"]))
        if run is not None and run["finished_at"] is None:
            found.append(Subject(prd["project"], prd["prd_id"]))
    return found + [_agent(session) for session in stored.under(AGENTS).values() if session["waiting"] is not None]


def everything(stored: DocumentsAtOnce) -> list[Subject]:
    prds = [Subject(prd["project"], prd["prd_id"]) for prd in stored.under(PRDS).values()]
    return prds + [_agent(session) for session in stored.under(AGENTS).values()]


def _agent(session: dict[str, Any]) -> Subject:
    return Subject(session["project"], None, session["session_id"])


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
        # A clock that was ahead then and was set right since must not make all that comes old.
        begun = min(self._begun[target.name], now_ms)
        if condition.since < max(begun - FRESH_MS, now_ms - MAX_AGE_MS):
            return False  # old when the channel was set up, or nobody's concern any more
        patterns = self._projects[target.name]
        return not patterns or any(pattern.fullmatch(condition.project or "") for pattern in patterns)


def _due_at(target: Target, condition: Condition, now_ms: int) -> int:
    """What has come to its end is not undone by waiting longer; nor does anything begin later than now."""
    if condition.kind in ENDS:
        return now_ms + AFTER_END_MS
    grace = target.settings.grace
    grace_ms = _GRACE_MS.get(condition.kind, SHORT_GRACE_MS) if grace is None else round(grace * 1000)
    return max(now_ms, min(condition.since, now_ms) + grace_ms)


def glob_patterns(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(glob_to_regex(glob)) for glob in globs]

"""What passing time alone makes of a run. It is never stored: it follows from the document and the moment.

Two things: a run that is ``running`` and silent for too long is ``stalled``, and a wait whose ``until`` has passed
without a word is ``overdue``.
"""

from __future__ import annotations

from claude_loop.progress.documents import Patch, RunDocument, Waiting
from claude_loop.progress.reducer import difference


def shown(run: RunDocument, now_ms: int, stalled_after_ms: int) -> RunDocument:
    """The run as it stands at ``now_ms``; the very same object if time changes nothing."""
    if not any(due <= now_ms for due in _changes(run, stalled_after_ms)):
        return run
    changed = run.copy()
    if run["waiting"] is None:
        changed["state"] = "stalled"
    else:
        changed["waits"] = [_as_of(wait, now_ms) for wait in run["waits"]]
        changed["waiting"] = _as_of(run["waiting"], now_ms)
    return changed


def next_change_at(run: RunDocument, now_ms: int, stalled_after_ms: int) -> int | None:
    """The next moment after ``now_ms`` at which ``shown`` answers differently if no event comes; None if never."""
    return min((due for due in _changes(run, stalled_after_ms) if due > now_ms), default=None)


def time_patches(key: str, run: RunDocument, before_ms: int, now_ms: int, stalled_after_ms: int) -> list[Patch]:
    """What time alone changes between two moments. ``key`` is the run's."""
    before, after = shown(run, before_ms, stalled_after_ms), shown(run, now_ms, stalled_after_ms)
    return [] if after is run else difference(key, before, after, run["last"]["seq"], now_ms)


def _changes(run: RunDocument, stalled_after_ms: int) -> list[int]:
    """The moments at which time changes how the run is shown, past ones included."""
    if run["state"] == "running":
        return [run["last"]["at"] + stalled_after_ms]
    if run["state"] == "waiting":
        return [wait["until"] for wait in run["waits"] if wait["until"] is not None]
    return []


def _as_of(wait: Waiting, now_ms: int) -> Waiting:
    if wait["until"] is None or now_ms < wait["until"]:
        return wait
    wait = wait.copy()
    wait["overdue"] = True
    return wait

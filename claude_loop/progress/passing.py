"""What passing time alone makes of a run or a session. It is never stored: it follows from the document and the moment.

Three things: a run that is ``running`` and silent for too long is ``stalled``, unless an agent of it is in a tool call;
a wait whose ``until`` has passed without a word is ``overdue``; and an agent that has been silent for very long, and is
not waiting for a limit to end, is gone: one that was killed never says so.
"""

from __future__ import annotations

from typing import Any

from claude_loop.progress.documents import RunDocument
from claude_loop.progress.keys import AGENTS, RUNS, SESSIONS
from claude_loop.progress.parts import SessionState, Waiting
from claude_loop.progress.session_documents import SessionDocument

# An agent at work reports a tool or a message far more often.
GONE_AFTER_MS = 3_600_000
# One that has nothing to do, or waits for a person, may be left alone over a night.
LEFT_ALONE_MS = 12 * 3_600_000
# Documents that time changes.
TIMED = (RUNS, SESSIONS, AGENTS)


def shown_by_key(key: str, document: Any, now_ms: int, stalled_after_ms: int) -> Any:
    """Any document as it stands at ``now_ms``; the very same object if time changes nothing."""
    if key.startswith(RUNS):
        return shown(document, now_ms, stalled_after_ms)
    return shown_session(document, now_ms) if key.startswith(TIMED) else document


def next_change_by_key(key: str, document: Any, now_ms: int, stalled_after_ms: int) -> int | None:
    """The next moment after ``now_ms`` at which ``shown_by_key`` answers differently; None if never."""
    if key.startswith(RUNS):
        return next_change_at(document, now_ms, stalled_after_ms)
    return next_change_of_session(document, now_ms) if key.startswith(TIMED) else None


def shown_session(session: SessionDocument, now_ms: int) -> SessionDocument:
    """The session as it stands at ``now_ms``; the very same object if time changes nothing."""
    if session["ended_at"] is not None:
        return session
    last, wait = session["last"]["at"], session["waiting"]
    if now_ms < _session_gone_at(session):
        as_of = None if wait is None else _as_of(wait, now_ms)
        return session if as_of is wait else {**session, "waiting": as_of}
    changed = session.copy()
    changed["state"] = "ended"
    changed["ended_at"] = last
    changed["doing"] = changed["doing_since"] = changed["waiting"] = changed["notified"] = None
    changed["open_calls"], changed["subagents"] = [], []
    return changed


def next_change_of_session(session: SessionDocument, now_ms: int) -> int | None:
    """The next moment after ``now_ms`` at which ``shown_session`` answers differently; None if never."""
    if session["ended_at"] is not None:
        return None
    changes, wait = [_session_gone_at(session)], session["waiting"]
    if wait is not None and wait["until"] is not None:
        changes.append(wait["until"])
    return min((due for due in changes if now_ms < due), default=None)


def _session_gone_at(session: SessionDocument) -> int:
    """Nothing is to be heard of one that is held by a limit before that ends."""
    wait, gone_at = session["waiting"], _gone_at(session["state"], session["last"]["at"])
    return gone_at if wait is None or wait["until"] is None else max(gone_at, wait["until"])


def _gone_at(state: SessionState, last_at: int) -> int:
    return last_at + (LEFT_ALONE_MS if state in ("waiting", "idle") else GONE_AFTER_MS)


def shown(run: RunDocument, now_ms: int, stalled_after_ms: int) -> RunDocument:
    """The run as it stands at ``now_ms``; the very same object if time changes nothing."""
    if not any(due <= now_ms for due in _changes(run, stalled_after_ms)):
        return run
    changed = run.copy()
    if run["state"] == "running" and stalls_at(run, stalled_after_ms) <= now_ms:
        changed["state"] = "stalled"
    if run["state"] == "waiting" and run["waiting"] is not None:
        changed["waits"] = [_as_of(wait, now_ms) for wait in run["waits"]]
        changed["waiting"] = _as_of(run["waiting"], now_ms)
    changed["agents"] = [agent for agent in run["agents"] if now_ms < _gone_at(agent["state"], agent["last_at"])]
    return changed


def next_change_at(run: RunDocument, now_ms: int, stalled_after_ms: int) -> int | None:
    """The next moment after ``now_ms`` at which ``shown`` answers differently if no event comes; None if never."""
    return min((due for due in _changes(run, stalled_after_ms) if due > now_ms), default=None)


def stalls_at(run: RunDocument, stalled_after_ms: int) -> int:
    """When a run that is ``running`` will be silent for too long: not while a live agent of it is in a tool call."""
    called = [_gone_at(agent["state"], agent["last_at"]) for agent in run["agents"] if agent["call"]]
    return max(run["last"]["at"] + stalled_after_ms, *called, 0)


def _changes(run: RunDocument, stalled_after_ms: int) -> list[int]:
    """The moments at which time changes how the run is shown, past ones included."""
    changes = [_gone_at(agent["state"], agent["last_at"]) for agent in run["agents"]]
    if run["state"] == "running":
        changes.append(stalls_at(run, stalled_after_ms))
    elif run["state"] == "waiting":
        changes += [wait["until"] for wait in run["waits"] if wait["until"] is not None]
    return changes


def _as_of(wait: Waiting, now_ms: int) -> Waiting:
    if wait["until"] is None or now_ms < wait["until"]:
        return wait
    wait = wait.copy()
    wait["overdue"] = True
    return wait

"""What about a run, or about an agent that belongs to no PRD, is worth a message, as the documents stand at a moment.
Pure; nothing here knows a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from claude_loop.progress.documents import PrdDocument, RunDocument
from claude_loop.progress.keys import prd_key, run_key, session_key
from claude_loop.progress.parts import Waiting
from claude_loop.progress.passing import next_change_at, shown, shown_session, stalls_at
from claude_loop.progress.session_documents import SessionDocument

Kind = Literal["waiting", "failed", "stalled", "vanished", "rate_limited", "done"]
# A fact has no end: nobody is told that a run is no longer done.
FACTS = frozenset({"done"})
# Reported by more than one (the script, then the wrapper), each with its own time, it is the same end.
ENDS = frozenset({"failed", "done"})
# The later, the more urgent: who heard of one hears no more of it once the same run has come to a later one.
URGENCY: tuple[Kind, ...] = ("done", "rate_limited", "stalled", "waiting", "vanished", "failed")


class Subject(NamedTuple):
    """Of which conditions are found and end together: a PRD, or the session of an agent that has none."""

    project: str | None
    prd_id: str | None
    session_id: str | None = None

    @property
    def key(self) -> str:
        """Of its document."""
        if self.prd_id is not None:
            return prd_key(self.project, self.prd_id)
        return session_key(self.project, None, self.session_id or "")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds since ``since`` (milliseconds). ``facts`` are what the words are made of.

    (``run``, ``kind``, ``since``) names it for ever: the same wait, seen again after a restart, is the same one.
    ``run`` is the key of the document it is about: a run, or the session of an agent without a PRD.
    """

    run: str
    kind: Kind
    since: int
    project: str | None
    prd_id: str | None
    run_id: str | None
    story_id: str | None
    session_id: str | None
    facts: dict[str, Any]

    @property
    def identity(self) -> tuple[str, str, int]:
        return self.run, self.kind, self.since

    @property
    def subject(self) -> Subject:
        return Subject(self.project, self.prd_id, self.session_id if self.prd_id is None else None)


def conditions_of(
    prd: PrdDocument, run: RunDocument, now_ms: int, stalled_after_ms: int
) -> dict[tuple[str, str, int], Condition]:
    """What holds of ``run`` at ``now_ms``, by identity. Of an earlier run only that it is done can hold: whatever else
    it was, the PRD has moved on; so it has when a person put it away."""
    stalled_at = stalls_at(run, stalled_after_ms)
    run = shown(run, now_ms, stalled_after_ms)
    moved_on = prd["run_id"] != run["run_id"] or prd["archived_at"] is not None
    found = [] if moved_on and not run["state"].startswith("done") else _holding(prd, run, stalled_at)
    return {condition.identity: condition for condition in found}


def conditions_of_agent(session: SessionDocument, now_ms: int) -> list[Condition]:
    """What holds of an agent without a PRD: that it waits, or that its work ended in an error. That it is idle or has
    ended is no news to who ran it."""
    wait, failed = shown_session(session, now_ms)["waiting"], session["failed"]
    if wait is not None:
        return [_of_agent(session, _kind_of(wait), wait["since"], wait["story_id"], _facts_of(wait))]
    # Some errors come in the middle of a turn that goes on.
    if failed is None or session["state"] not in ("idle", "ended"):
        return []
    return [_of_agent(session, "failed", failed["at"], session["story_id"], {"why": [failed["error"]]})]


def _of_agent(
    session: SessionDocument, kind: Kind, since: int, story_id: str | None, facts: dict[str, Any]
) -> Condition:
    project, session_id = session["project"], session["session_id"]
    facts = {"agent": session["agent"], **facts}
    return Condition(
        session_key(project, None, session_id), kind, since, project, None, None, story_id, session_id, facts
    )


def next_look_at(run: RunDocument, now_ms: int, stalled_after_ms: int) -> int | None:
    """When time alone will change what holds."""
    return next_change_at(run, now_ms, stalled_after_ms)


def _holding(prd: PrdDocument, run: RunDocument, stalled_at: int) -> list[Condition]:
    state = run["state"]
    if state == "waiting":
        return [_waiting(prd, run, wait) for wait in run["waits"]]
    if state == "stalled":
        facts = {"last": run["last"]["type"], "silent_since": run["last"]["at"]}
        return [_condition(prd, run, "stalled", stalled_at, facts)]
    if state == "vanished" and run["vanished_at"] is not None:
        return [_condition(prd, run, "vanished", run["vanished_at"], {})]
    if run["finished_at"] is None:
        return []
    counts = {"stories": max(run["total_stories"] or 0, run["stories"]), **run["counts"]}
    facts = {"why": run["why"][:3], "counts": counts, "took_ms": run["finished_at"] - run["started_at"]}
    if state == "failed":
        return [_condition(prd, run, "failed", run["finished_at"], facts)]
    return [_condition(prd, run, "done", run["finished_at"], {**facts, "verified": state == "done·verified"})]


def _waiting(prd: PrdDocument, run: RunDocument, wait: Waiting) -> Condition:
    ids = {"story_id": wait["story_id"], "session_id": wait["session_id"]}
    return _condition(prd, run, _kind_of(wait), wait["since"], _facts_of(wait), **ids)


def _kind_of(wait: Waiting) -> Kind:
    return "rate_limited" if wait["for"] == "rate_limit" else "waiting"


def _facts_of(wait: Waiting) -> dict[str, Any]:
    return {"for": wait["for"], "reason": wait["reason"], "until": wait["until"]}


def _condition(
    prd: PrdDocument,
    run: RunDocument,
    kind: Kind,
    since: int,
    facts: dict[str, Any],
    *,
    story_id: str | None = None,
    session_id: str | None = None,
) -> Condition:
    key = run_key(run["project"], run["prd_id"], run["run_id"])
    current = run["current"]
    story = story_id or (current["story_id"] if current is not None and kind != "done" else None)
    facts = {"title": prd["title"], **facts}
    return Condition(key, kind, since, run["project"], run["prd_id"], run["run_id"], story, session_id, facts)

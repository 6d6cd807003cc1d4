"""The report about agents that belong to no PRD, by project: what they did in the range, and which of them waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from typing_extensions import TypedDict

from claude_loop.events import Event
from claude_loop.progress.draft import Document
from claude_loop.progress.keys import session_key
from claude_loop.progress.parts import SessionState, Waiting
from claude_loop.progress.reading import moment_of
from claude_loop.progress.reducer import fold_one
from claude_loop.progress.report_counts import Counted, ReportedWait, Waited, nothing, together, wait_within
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.spans import clipped

KEPT_SESSIONS = 5
Agent = tuple[str | None, str]  # project, session


class ReportedSession(TypedDict):
    """``began_at`` and ``ended_at`` are its own, whatever the range; it has not ended while that is null."""

    session_id: str
    agent: str | None
    state: SessionState
    began_at: int
    ended_at: int | None
    last_at: int
    last_prompt: str | None


class ProjectReport(Counted, Waited):
    """What happened in a project outside of its PRDs."""

    project: str | None
    sessions: list[ReportedSession]  # at work in the range; the latest ones, the first one first
    sessions_omitted: int


class PastWait(TypedDict):
    wait: Waiting
    ended_at: int | None  # null: it had not ended by the last event


class SessionWaits:
    """Takes a session's events in order, from a word of a wait on, and finds its waits by the reducer's own rules.

    What was before does not matter: while an agent waits for nothing, an event may be left out, unless it says that it
    waits. The documents know the waits of now only.
    """

    def __init__(self, agent: Agent) -> None:
        project, session_id = agent
        self._key = session_key(project, None, session_id)
        self._documents: dict[str, Document] = {}
        self._past: list[PastWait] = []

    @property
    def waiting(self) -> Waiting | None:
        session = self._documents.get(self._key)
        return None if session is None else session["waiting"]

    def take(self, event: Event) -> None:
        before = self.waiting
        self._documents.update(fold_one(event, self._documents.get))
        after = self.waiting
        if before is not None and (after is None or after["since"] != before["since"]):
            self._past.append({"wait": before, "ended_at": max(moment_of(event), before["since"])})

    def found(self) -> list[PastWait]:
        wait = self.waiting
        return self._past if wait is None else [*self._past, {"wait": wait, "ended_at": None}]


def project_reports(
    since: int,
    until: int,
    now: int,
    sessions: Sequence[SessionDocument],
    counted: Mapping[str | None, Counted],
    waits: Mapping[Agent, list[PastWait]],
) -> Iterator[ProjectReport]:
    """``sessions`` are all without a PRD, as they stand now."""
    at_work = [session for session in sessions if clipped(_span(session, now), since, until) is not None]
    projects = {session["project"] for session in at_work} | counted.keys()
    for project in sorted(projects, key=lambda name: (name is None, name or "")):
        own = sorted((s for s in at_work if s["project"] == project), key=lambda session: session["last"]["at"])
        waited = [wait for session in own for wait in _waits(session, waits, since, until, now)]
        latest = sorted(own[-KEPT_SESSIONS:], key=lambda session: session["first_at"])
        yield {
            "project": project,
            "sessions": [_session(session) for session in latest],
            "sessions_omitted": len(own) - len(latest),
            **(counted.get(project) or nothing()),
            **together(waited),
        }


def _span(session: SessionDocument, now: int) -> tuple[int, int]:
    """One that waits is at it until now; one that is silent was so until its last word."""
    if session["ended_at"] is not None:
        return session["first_at"], session["ended_at"]
    return session["first_at"], now if session["waiting"] is not None else session["last"]["at"]


def _session(session: SessionDocument) -> ReportedSession:
    return {
        "session_id": session["session_id"],
        "agent": session["agent"],
        "state": session["state"],
        "began_at": session["first_at"],
        "ended_at": session["ended_at"],
        "last_at": session["last"]["at"],
        "last_prompt": session["last_prompt"],
    }


def _waits(
    session: SessionDocument, past: Mapping[Agent, list[PastWait]], since: int, until: int, now: int
) -> Iterable[ReportedWait]:
    lasting = session["waiting"]
    found = list(past.get((session["project"], session["session_id"]), ()))
    if lasting is not None:
        found = [each for each in found if each["wait"]["since"] != lasting["since"]]
        found.append({"wait": lasting, "ended_at": None})
    for each in found:
        wait, ended_at = each["wait"], each["ended_at"]
        if wait is not lasting and ended_at is None:  # it was given up, or has ended in this moment
            ended_at = session["ended_at"] or session["last"]["at"]
        span = wait["since"], max(wait["since"], now if ended_at is None else ended_at)
        reported = wait_within(since, until, wait["for"], wait["reason"], span, ended_at)
        if reported is not None:
            yield reported

"""`GET /api/sessions…`: agents' sessions, as they stand now and from beginning to end."""

from __future__ import annotations

from typing import cast

from aiohttp import web

from claude_loop.clock import Clock
from claude_loop.errors import NotFound
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.progress.keys import AGENTS, SESSIONS, session_key, sessions_prefix
from claude_loop.progress.passing import shown_session
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.session_view import SessionView, Whole
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_json import json_answer
from claude_loop.transports.http_query import Query

LIST_QUERY = (
    Parameter("project", "Only sessions of this project."),
    Parameter("prd_id", "Only sessions of this PRD."),
    Parameter("run_id", "Only sessions that work, or last worked, in this run."),
    Parameter("live", "`true`: only those that have not ended.", schema={"type": "string", "enum": ["false", "true"]}),
)
DETAIL_QUERY = (Parameter("project", "Needed when sessions of several projects have this id."),)
MOST_SESSIONS = 200
# The latest of a session's events: what a person can take in, and a few tens of milliseconds.
MOST_EVENTS = 2_000


class SessionsHandler:
    """Asks the read model for what is, and the log for what was."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock

    async def list_sessions(self, request: web.Request) -> web.Response:
        """Sessions of agents, the one that gave the last sign of life first; at most 200."""
        query = Query(request, LIST_QUERY)
        project, prd_id, run_id = query.text("project"), query.text("prd_id"), query.text("run_id")
        live = query.one_of("live", ("false", "true")) == "true"
        now_ms = self._clock.now_us() // 1000
        found = [
            session
            for session in (shown_session(stored, now_ms) for stored in await self._stored(project, prd_id))
            if project in (None, session["project"])
            and prd_id in (None, session["prd_id"])
            and run_id in (None, session["run_id"])
            and not (live and session["ended_at"] is not None)
        ]
        found.sort(key=lambda session: session["last"]["at"], reverse=True)
        return json_answer({"sessions": [self._view(session) for session in found[:MOST_SESSIONS]]})

    async def _stored(self, project: str | None, prd_id: str | None) -> list[SessionDocument]:
        log = self._hub.log
        if project is not None and prd_id is not None:
            documents = await log.entities(sessions_prefix(project, prd_id))
        else:
            documents = await log.entities(SESSIONS)
            if prd_id is None:
                documents |= await log.entities(AGENTS)
        return [cast("SessionDocument", document) for document in documents.values()]

    async def get_session(self, request: web.Request) -> web.Response:
        """One session: how it stands, what was asked and said, its tool calls and subagents."""
        query = Query(request, DETAIL_QUERY)
        session_id = request.match_info["id"]
        project = query.text("project")
        filter_ = Filter(session_ids=(session_id,), projects=(project,) if project else ())
        newest = await self._hub.log.read_backwards(None, MOST_EVENTS, filter_)
        session = await self._session_of(newest) or await self._kept(session_id, project)
        if session is None:
            hint = "`GET /api/sessions` lists those there are."
            raise NotFound(f"No agent has told of a session {session_id[:80]}.", field="id", hint=hint)
        whole = Whole()
        whole.take(event for event in reversed(newest) if event.project == session["project"])
        return json_answer(
            {
                "session": self._view(session),
                "outline": whole.outline,
                "calls": whole.calls,
                "subagents": list(whole.subagents.values()),
                "omitted": len(newest) == MOST_EVENTS,
            }
        )

    async def _session_of(self, newest: list[Event]) -> SessionDocument | None:
        """The latest of what these events have made; the same id may stand in several PRDs."""
        seen: set[str] = set()
        for event in newest:
            key = session_key(event.project, event.prd_id, event.session_id or "")
            if key not in seen:
                seen.add(key)
                found = (await self._hub.log.entities(key)).get(key)
                if found is not None:
                    return cast("SessionDocument", found)
        return None

    async def _kept(self, session_id: str, project: str | None) -> SessionDocument | None:
        """The latest of this id, where its events have been pruned."""
        found = [s for s in await self._stored(None, None) if s["session_id"] == session_id]
        found = [session for session in found if project in (None, session["project"])]
        return max(found, key=lambda session: session["last"]["at"], default=None)

    def _view(self, session: SessionDocument) -> SessionView:
        now_ms = self._clock.now_us() // 1000
        silent_ms = max(0, now_ms - session["last"]["at"])
        return cast("SessionView", {**shown_session(session, now_ms), "silent_ms": silent_ms})

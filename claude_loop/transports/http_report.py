"""`GET /api/report`: what happened in a range of time, and what needs a person now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

from aiohttp import web

from claude_loop.errors import InvalidRequest
from claude_loop.eventlog.base import DocumentsAtOnce
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.progress.documents import Card, PrdDocument, RunDocument, StoryDocument
from claude_loop.progress.keys import AGENTS, PRDS, run_key, runs_prefix, stories_prefix
from claude_loop.progress.passing import shown_session
from claude_loop.progress.report import TYPES, Prd, ReportFold
from claude_loop.progress.report_agents import Agent, SessionWaits
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.views import Moment, make_card, urgency
from claude_loop.said_times import moment_said
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_json import json_answer
from claude_loop.transports.http_query import SAID_TIME, Query

_TIME = "an age (8h), a time (22:00, 2026-01-26T22:00:00), or seconds since the epoch; without an offset it is local"
REPORT_QUERY = (
    Parameter("since", f"Where the range begins: {_TIME}. Without it: twelve hours before its end.", schema=SAID_TIME),
    Parameter("until", "Where it ends, likewise. Without it: now.", schema=SAID_TIME),
    Parameter("project", "Only this project; empty for PRDs and agents without one."),
)
# No date of 1970 is earlier in any zone.
_EARLIEST = datetime(1969, 12, 31, 10, tzinfo=UTC)
DEFAULT_RANGE_MS = 12 * 3600 * 1000
_PAGE_EVENTS = 200
_PAGE_OF_A_WAIT = 20  # most waits end with the next event, and the next wait is often not far
Documents = tuple[list[Card], dict[Prd, list[RunDocument]], dict[Prd, list[StoryDocument]], list[SessionDocument]]


class ReportHandler:
    """Reads the events of the range, then the documents of now."""

    def __init__(self, hub: Hub, moment: Callable[[], Moment]) -> None:
        self._hub = hub
        self._moment = moment

    async def get_report(self, request: web.Request) -> web.Response:
        """What happened in a range of time for each PRD and for agents without one, and what needs a person now."""
        query = Query(request, REPORT_QUERY)
        moment = self._moment()
        now = datetime.fromtimestamp(moment.now_ms / 1000, UTC).astimezone()
        end = _time(query, "until", now)
        until = moment.now_ms if end is None else _milliseconds(end)
        # 22:00 until 07:00 is one night: the begin lies before the end.
        begin = _time(query, "since", now if end is None else end)
        since = until - DEFAULT_RANGE_MS if begin is None else _milliseconds(begin)
        if since > until:
            raise InvalidRequest(
                "`since` is later than `until`.", field="since", hint="The range has to have a length."
            )
        project = query.text("project")
        fold = ReportFold(since, until)
        await self._read(fold, project)
        for agent, places in fold.waits_at.items():
            await self._follow_waits(fold, agent, places)
        _, documents = await self._hub.log.snapshot(lambda stored: _documents(stored, project, moment))
        return json_answer(fold.result(*documents, moment.now_ms))

    async def _read(self, fold: ReportFold, project: str | None) -> None:
        """An event is never received before its moment, so none of the range lies before this position."""
        filter_ = Filter(types=TYPES, projects=(project,) if project else ())
        place, head = await self._hub.log.position_since(fold.reads_from), self._hub.state.head
        while place < head:
            page = await self._hub.log.read(place, _PAGE_EVENTS, filter_)
            for event in page.events:
                if project is None or (event.project or "") == project:
                    fold.add(event)
            place = page.upto

    async def _follow_waits(self, fold: ReportFold, agent: Agent, places: list[int]) -> None:
        """From each word of a wait on, what the session did until it went on: what lies between waits is not read."""
        project, session_id = agent
        filter_ = Filter(session_ids=(session_id,), projects=() if project is None else (project,))
        reached = 0
        for place in places:
            if place > reached:
                reached = await self._until_it_goes_on(fold.waits_of(agent), filter_, project, place - 1)

    async def _until_it_goes_on(self, waits: SessionWaits, filter_: Filter, project: str | None, place: int) -> int:
        """Returns the position up to which was read: the wait has ended, or the log has."""
        head = self._hub.state.head
        while place < head:
            page = await self._hub.log.read(place, _PAGE_OF_A_WAIT, filter_)
            for event in page.events:
                if event.project == project and event.prd_id is None:
                    waits.take(event)
            place = page.upto
            if waits.waiting is None:
                break
        return place


def _documents(stored: DocumentsAtOnce, project: str | None, moment: Moment) -> Documents:
    """Runs in a thread of the log."""
    cards: list[Card] = []
    runs: dict[Prd, list[RunDocument]] = {}
    stories: dict[Prd, list[StoryDocument]] = {}
    for document in stored.under(PRDS).values():
        prd = cast("PrdDocument", document)
        latest = cast("RunDocument | None", stored.get(run_key(prd["project"], prd["prd_id"], prd["run_id"])))
        if latest is None or project not in (None, prd["project"] or ""):
            continue
        names = prd["project"], prd["prd_id"]
        cards.append(make_card(prd, latest, moment))
        runs[names] = cast("list[RunDocument]", list(stored.under(runs_prefix(*names)).values()))
        of_latest = stored.under(stories_prefix(*names, prd["run_id"]))
        stories[names] = cast("list[StoryDocument]", list(of_latest.values()))
    agents = [shown_session(cast("SessionDocument", agent), moment.now_ms) for agent in stored.under(AGENTS).values()]
    own = [agent for agent in agents if project in (None, agent["project"] or "")]
    return sorted(cards, key=urgency), runs, stories, own


def _time(query: Query, name: str, now: datetime) -> datetime | None:
    text = query.text(name)
    if text is None:
        return None
    found = moment_said(text, now)
    if found is None or found < _EARLIEST:
        raise InvalidRequest(f"`{name}` is no time.", field=name, hint=f"Write it as {_TIME}.")
    return found


def _milliseconds(moment: datetime) -> int:
    return max(0, round(moment.timestamp() * 1000))

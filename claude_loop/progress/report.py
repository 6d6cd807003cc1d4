"""What happened between two moments, for each PRD and for agents without one, and what needs a person now.

A pure fold: events of the range give tests, commits and errors, the documents give states, waits and times. States are
those of now, also for a range in the past: what needs somebody needs them now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from typing_extensions import TypedDict

from claude_loop.events import Event
from claude_loop.progress.documents import Card, RunDocument, StoryDocument
from claude_loop.progress.parts import PastWait, RunState, Waiting, WaitingFor
from claude_loop.progress.passing import LEFT_ALONE_MS
from claude_loop.progress.reading import moment_of
from claude_loop.progress.report_agents import Agent, ProjectReport, SessionWaits, project_reports
from claude_loop.progress.report_counts import (
    COUNTED,
    Counted,
    ReportedWait,
    Waited,
    add,
    nothing,
    together,
    wait_within,
)
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.spans import clipped, total

WAITS = "agent.waiting"
TYPES = (*COUNTED, WAITS)
KEPT_STORIES = 50
Prd = tuple[str | None, str]


class ReportedStory(TypedDict):
    story_id: str
    title: str | None
    why: list[str]  # what `claimed` lacks, why `failing` or `blocked`


class ReportedStories(TypedDict):
    """By state, as they stand now; each list has at most fifty. Those that were never seen are in no list."""

    verified: list[ReportedStory]
    claimed: list[ReportedStory]
    failing: list[ReportedStory]
    blocked: list[ReportedStory]
    running: list[ReportedStory]


class PrdReport(Counted, Waited):
    project: str | None
    prd_id: str
    title: str | None
    state: RunState
    why: list[str]
    runs: int  # that were at work in the range
    total_stories: int
    stories: ReportedStories
    worked_ms: int  # without waits
    promise: str | None  # the last words in the range by which an agent said that all is done
    cost_usd: float | None  # of those runs from their beginning, as far as it was reported


class Need(TypedDict):
    """Something that goes on only when a person does something. ``reason`` is theirs to read.

    It is about a PRD, or about an ``agent`` that has none; one that is held by a limit seldom goes on by itself.
    """

    project: str | None
    prd_id: str | None
    session_id: str | None
    agent: str | None
    title: str | None
    state: RunState
    waits_for: WaitingFor | None  # a person too where a limit is over and nothing went on
    until: int | None
    since: int
    reason: str


class Report(TypedDict):
    """``since`` and ``until`` are milliseconds; ``needs`` comes first, for that is what to act on. ``projects`` has
    what happened outside of PRDs."""

    since: int
    until: int
    now: int
    needs: list[Need]
    prds: list[PrdReport]
    projects: list[ProjectReport]


class ReportFold:
    """Takes the events of ``TYPES`` in order, then ``result`` with the documents."""

    def __init__(self, since: int, until: int) -> None:
        self.since, self.until = since, until
        self._counted: dict[Prd, Counted] = {}
        self._without_prd: dict[str | None, Counted] = {}
        self._waits: dict[Agent, SessionWaits] = {}
        # Words of waits of agents without a PRD, by their positions. How a wait goes on has to be read from each.
        self.waits_at: dict[Agent, list[int]] = {}

    @property
    def reads_from(self) -> int:
        """The moment of the first event to be added: a wait that began before the range may reach into it."""
        return max(0, self.since - LEFT_ALONE_MS)

    def add(self, event: Event) -> None:
        moment = moment_of(event)
        if event.type == WAITS:
            if event.prd_id is None and event.session_id is not None and moment <= self.until:
                self.waits_at.setdefault((event.project, event.session_id), []).append(event.seq)
        elif event.type in COUNTED and self.since <= moment <= self.until:
            if event.prd_id is None:
                counted = self._without_prd.setdefault(event.project, nothing())
            else:
                counted = self._counted.setdefault((event.project, event.prd_id), nothing())
            add(counted, event, moment)

    def waits_of(self, agent: Agent) -> SessionWaits:
        return self._waits.setdefault(agent, SessionWaits(agent))

    def result(
        self,
        cards: Iterable[Card],
        runs: Mapping[Prd, list[RunDocument]],
        stories: Mapping[Prd, list[StoryDocument]],
        agents: Sequence[SessionDocument],
        now: int,
    ) -> Report:
        """``cards`` in the order in which they are shown; ``runs`` are all runs of each PRD, ``stories`` those of its
        latest run; ``agents`` are the sessions without a PRD, as they stand now."""
        needs, prds = [], []
        for card in cards:
            prd = card["project"], card["prd_id"]
            at_work = [run for run in runs.get(prd, []) if self._overlaps(run, now)]
            if card["archived_at"] is None and (at_work or card["state"] == "waiting"):
                needs += _needs(card)
            if at_work or prd in self._counted:
                prds.append(self._prd(card, at_work, stories.get(prd, []), self._counted.get(prd) or nothing(), now))
        needs += [need for session in agents for need in _needs_of_agent(session, self.since)]
        waits = {agent: found.found() for agent, found in self._waits.items()}
        return {
            "since": self.since,
            "until": self.until,
            "now": now,
            "needs": sorted(needs, key=_urgency),
            "prds": prds,
            "projects": list(project_reports(self.since, self.until, now, agents, self._without_prd, waits)),
        }

    def _prd(
        self, card: Card, runs: list[RunDocument], stories: list[StoryDocument], counted: Counted, now: int
    ) -> PrdReport:
        waited = together(wait for run in runs for wait in self._waits_in(run, now))
        busy = [clipped((run["started_at"], _end_of(run, now)), self.since, self.until) for run in runs]
        return {
            "project": card["project"],
            "prd_id": card["prd_id"],
            "title": card["title"],
            "state": card["state"],
            "why": card["why"],
            "runs": len(runs),
            "total_stories": max(card["total_stories"] or 0, card["stories"]),
            "stories": _by_state(stories),
            **counted,
            **waited,
            "worked_ms": max(0, total([span for span in busy if span is not None]) - waited["waited_ms"]),
            "promise": self._promise(runs),
            "cost_usd": _cost(runs),
        }

    def _promise(self, runs: list[RunDocument]) -> str | None:
        """Of the latest run that has one."""
        promised = [(run["promised_at"] or 0, run["promise"]) for run in runs]
        return max((said for said in promised if self.since <= said[0] <= self.until), default=(0, None))[1]

    def _waits_in(self, run: RunDocument, now: int) -> Iterable[ReportedWait]:
        past = [(wait, wait["waited_for"], wait["ended_at"]) for wait in run["past_waits"]]
        lasting = [(cast("PastWait", wait), wait["for"], None) for wait in run["waits"]]
        for wait, waited_for, ended_at in [*past, *lasting]:
            span = wait["since"], _end_of(run, now) if ended_at is None else ended_at
            reported = wait_within(self.since, self.until, waited_for, wait["reason"], span, ended_at)
            if reported is not None:
                yield reported

    def _overlaps(self, run: RunDocument, now: int) -> bool:
        return clipped((run["started_at"], _end_of(run, now)), self.since, self.until) is not None


def _cost(runs: Iterable[RunDocument]) -> float | None:
    costs = [run["usage"]["cost_usd"] for run in runs if run["usage"] is not None]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if known else None


def _end_of(run: RunDocument, now: int) -> int:
    """A run that waits is at it until now; one that is silent was so until its last word."""
    if run["finished_at"] is not None:
        return run["finished_at"]
    if run["vanished_at"] is not None:
        return run["vanished_at"]
    return now if run["waiting"] is not None else run["last"]["at"]


def _needs(card: Card) -> list[Need]:
    state, wait = card["state"], card["waiting"]
    if state == "waiting" and wait is not None:
        if wait["for"] == "rate_limit" and not wait["overdue"]:
            return []
        return [_need(card, wait["since"], wait["reason"] or "waits for you", wait)]
    if state == "stalled":
        return [_need(card, card["last"]["at"], f"silent; last: {card['last']['type']}")]
    if state == "vanished":
        return [_need(card, card["vanished_at"] or card["last"]["at"], "its process is gone, without finishing")]
    if state == "failed":
        return [_need(card, card["finished_at"] or card["last"]["at"], "; ".join(card["why"]) or "it failed")]
    return []


def _needs_of_agent(session: SessionDocument, since: int) -> list[Need]:
    """A wait, whenever it began; an error that ended the work if that was in the range."""
    wait, failed = session["waiting"], session["failed"]
    if wait is not None:
        return [_need_of_agent(session, "waiting", wait["since"], wait["reason"], wait)]
    if failed is not None and failed["at"] >= since and session["state"] in ("idle", "ended"):
        return [_need_of_agent(session, "failed", failed["at"], failed["error"])]
    return []


def _need_of_agent(
    session: SessionDocument, state: RunState, since: int, reason: str, wait: Waiting | None = None
) -> Need:
    return {
        "project": session["project"],
        "prd_id": None,
        "session_id": session["session_id"],
        "agent": session["agent"],
        "title": session["title"],
        "state": state,
        "waits_for": None if wait is None else _whom(wait),
        "until": None if wait is None else wait["until"],
        "since": since,
        "reason": reason,
    }


def _whom(wait: Waiting) -> WaitingFor:
    return "human" if wait["overdue"] else wait["for"]


def _urgency(need: Need) -> tuple[int, int]:
    """A key to sort by, which leaves cards in their order: waits first, the longest before the others; a limit that may
    end by itself comes last."""
    if need["waits_for"] == "rate_limit":
        return 3, need["since"]
    if need["state"] == "waiting":
        return int(need["waits_for"] != "human"), need["since"]
    return 2, 0


def _need(card: Card, since: int, reason: str, wait: Waiting | None = None) -> Need:
    return {
        "project": card["project"],
        "prd_id": card["prd_id"],
        "session_id": None if wait is None else wait["session_id"],
        "agent": None,
        "title": card["title"],
        "state": card["state"],
        "waits_for": None if wait is None else _whom(wait),
        "until": None if wait is None else wait["until"],
        "since": since,
        "reason": reason,
    }


def _by_state(stories: list[StoryDocument]) -> ReportedStories:
    ordered = sorted(stories, key=lambda story: story["number"])

    def those(state: str) -> list[ReportedStory]:
        found = [story for story in ordered if story["state"] == state][:KEPT_STORIES]
        return [{"story_id": s["story_id"], "title": s["title"], "why": s["why"]} for s in found]

    return {
        "verified": those("done·verified"),
        "claimed": those("done·claimed"),
        "failing": those("failing"),
        "blocked": those("blocked"),
        "running": those("running"),
    }

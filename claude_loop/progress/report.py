"""What happened between two moments, for each PRD, and what needs a person now.

A pure fold: events of the range give tests, commits and errors, the documents give states, waits and times. States are
those of now, also for a range in the past: what needs somebody needs them now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from typing_extensions import TypedDict

from claude_loop.events import Event
from claude_loop.progress.documents import (
    Card,
    CommitSummary,
    ErrorSummary,
    PastWait,
    RunDocument,
    RunState,
    StoryDocument,
    WaitingFor,
)
from claude_loop.progress.reading import commit_hash, count, moment_of, text
from claude_loop.progress.spans import clipped, total

# The types that a report counts; all others it knows from the documents.
TYPES = ("test.run", "commit.created", "error.occurred")
KEPT_COMMITS, KEPT_ERRORS, KEPT_WAITS, KEPT_STORIES = 8, 3, 10, 50
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


class ReportedTests(TypedDict):
    """``passing`` runs had a passed test and no failed one; ``failed`` sums the tests that failed."""

    runs: int
    passing: int
    failed: int


class ReportedWait(TypedDict):
    """Within the range; ``ended_at`` null: it lasts."""

    waited_for: WaitingFor
    reason: str
    since: int
    ended_at: int | None
    waited_ms: int


class PrdReport(TypedDict):
    project: str | None
    prd_id: str
    title: str | None
    state: RunState
    why: list[str]
    runs: int  # that were at work in the range
    total_stories: int
    stories: ReportedStories
    tests: ReportedTests
    commits: int
    latest_commits: list[CommitSummary]
    waits: list[ReportedWait]  # the longest ones, in order of time
    waits_omitted: int
    waited_ms: int
    errors: int
    latest_errors: list[ErrorSummary]
    worked_ms: int  # without waits
    cost_usd: float | None  # of those runs from their beginning, as far as it was reported


class Need(TypedDict):
    """Something that goes on only when a person does something. ``reason`` is theirs to read."""

    project: str | None
    prd_id: str
    title: str | None
    state: RunState
    since: int
    reason: str


class Report(TypedDict):
    """``since`` and ``until`` are milliseconds; ``needs`` comes first, for that is what to act on."""

    since: int
    until: int
    now: int
    needs: list[Need]
    prds: list[PrdReport]


class _Counted(TypedDict):
    tests: ReportedTests
    commits: int
    latest_commits: list[CommitSummary]
    errors: int
    latest_errors: list[ErrorSummary]


def _nothing() -> _Counted:
    tests: ReportedTests = {"runs": 0, "passing": 0, "failed": 0}
    return {"tests": tests, "commits": 0, "latest_commits": [], "errors": 0, "latest_errors": []}


class ReportFold:
    """Takes the events of ``TYPES`` in order, then ``result`` with the documents."""

    def __init__(self, since: int, until: int) -> None:
        self.since, self.until = since, until
        self._counted: dict[Prd, _Counted] = {}

    def add(self, event: Event) -> None:
        moment = moment_of(event)
        if event.prd_id is None or not self.since <= moment <= self.until or event.type not in TYPES:
            return
        prd = event.project, event.prd_id
        counted = self._counted.get(prd) or _nothing()
        self._counted[prd] = counted
        if event.type == "test.run":
            _add_tests(counted["tests"], event)
        elif event.type == "commit.created":
            _add_commit(counted, event, moment)
        else:
            _add_error(counted, event, moment)

    def result(
        self,
        cards: Iterable[Card],
        runs: Mapping[Prd, list[RunDocument]],
        stories: Mapping[Prd, list[StoryDocument]],
        now: int,
    ) -> Report:
        """``cards`` in the order in which they are shown; ``runs`` are all runs of each PRD, ``stories`` those of its
        latest run."""
        needs, prds = [], []
        for card in cards:
            prd = card["project"], card["prd_id"]
            at_work = [run for run in runs.get(prd, []) if self._overlaps(run, now)]
            if card["archived_at"] is None and (at_work or card["state"] == "waiting"):
                needs += _needs(card)
            if at_work or prd in self._counted:
                prds.append(self._prd(card, at_work, stories.get(prd, []), self._counted.get(prd) or _nothing(), now))
        return {"since": self.since, "until": self.until, "now": now, "needs": needs, "prds": prds}

    def _prd(
        self, card: Card, runs: list[RunDocument], stories: list[StoryDocument], counted: _Counted, now: int
    ) -> PrdReport:
        waits = [wait for run in runs for wait in self._waits(run, now)]
        pauses = [(wait["since"], wait["since"] + wait["waited_ms"]) for wait in waits]
        busy = [clipped((run["started_at"], _end_of(run, now)), self.since, self.until) for run in runs]
        longest = sorted(waits, key=lambda wait: wait["waited_ms"], reverse=True)[:KEPT_WAITS]
        waited = total(pauses)
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
            "waits": sorted(longest, key=lambda wait: wait["since"]),
            "waits_omitted": len(waits) - len(longest),
            "waited_ms": waited,
            "worked_ms": max(0, total([span for span in busy if span is not None]) - waited),
            "cost_usd": _cost(runs),
        }

    def _waits(self, run: RunDocument, now: int) -> Iterable[ReportedWait]:
        past = [(wait, wait["waited_for"], wait["ended_at"]) for wait in run["past_waits"]]
        lasting = [(cast("PastWait", wait), wait["for"], None) for wait in run["waits"]]
        for wait, waited_for, ended_at in [*past, *lasting]:
            span = clipped((wait["since"], _end_of(run, now) if ended_at is None else ended_at), self.since, self.until)
            if span is not None:
                yield {
                    "waited_for": waited_for,
                    "reason": wait["reason"],
                    "since": span[0],
                    "ended_at": ended_at,
                    "waited_ms": span[1] - span[0],
                }

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
        return [_need(card, wait["since"], wait["reason"] or "waits for you")]
    if state == "stalled":
        return [_need(card, card["last"]["at"], f"silent; last: {card['last']['type']}")]
    if state == "vanished":
        return [_need(card, card["vanished_at"] or card["last"]["at"], "its process is gone, without finishing")]
    if state == "failed":
        return [_need(card, card["finished_at"] or card["last"]["at"], "; ".join(card["why"]) or "it failed")]
    return []


def _need(card: Card, since: int, reason: str) -> Need:
    return {
        "project": card["project"],
        "prd_id": card["prd_id"],
        "title": card["title"],
        "state": card["state"],
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


def _add_tests(tests: ReportedTests, event: Event) -> None:
    passed, failed = count(event.data, "passed"), count(event.data, "failed")
    tests["runs"] += 1
    tests["failed"] += failed or 0
    tests["passing"] += bool(passed) and failed == 0


def _add_commit(counted: _Counted, event: Event, moment: int) -> None:
    hash_ = commit_hash(event.data)
    if hash_ is None:
        return
    counted["commits"] += 1
    commit: CommitSummary = {
        "seq": event.seq,
        "at": moment,
        "story_id": event.story_id,
        "attempt": 0,
        "hash": hash_,
        "subject": text(event.data, "subject"),
        "branch": text(event.data, "branch"),
    }
    counted["latest_commits"] = [*counted["latest_commits"][1 - KEPT_COMMITS :], commit]


def _add_error(counted: _Counted, event: Event, moment: int) -> None:
    counted["errors"] += 1
    error: ErrorSummary = {
        "seq": event.seq,
        "at": moment,
        "story_id": event.story_id,
        "error": text(event.data, "error") or "no message",
    }
    counted["latest_errors"] = [*counted["latest_errors"][1 - KEPT_ERRORS :], error]

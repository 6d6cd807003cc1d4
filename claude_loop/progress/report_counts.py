"""What a report counts, of a PRD and of a project's agents that have none alike: tests, commits, errors and waits."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypedDict

from claude_loop.events import Event
from claude_loop.progress.parts import CommitSummary, ErrorSummary, WaitingFor
from claude_loop.progress.reading import commit_hash, count, text
from claude_loop.progress.spans import clipped, total

# The types that are counted; all others are known from the documents.
COUNTED = ("test.run", "commit.created", "error.occurred")
KEPT_COMMITS, KEPT_ERRORS, KEPT_WAITS = 8, 3, 10


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


class Counted(TypedDict):
    tests: ReportedTests
    commits: int
    latest_commits: list[CommitSummary]
    errors: int
    latest_errors: list[ErrorSummary]


class Waited(TypedDict):
    waits: list[ReportedWait]  # the longest ones, in order of time
    waits_omitted: int
    waited_ms: int


def nothing() -> Counted:
    tests: ReportedTests = {"runs": 0, "passing": 0, "failed": 0}
    return {"tests": tests, "commits": 0, "latest_commits": [], "errors": 0, "latest_errors": []}


def add(counted: Counted, event: Event, moment: int) -> None:
    """Count an event of one of the ``COUNTED`` types."""
    if event.type == "test.run":
        _add_tests(counted["tests"], event)
    elif event.type == "commit.created":
        _add_commit(counted, event, moment)
    else:
        _add_error(counted, event, moment)


def wait_within(
    since: int, until: int, waited_for: WaitingFor, reason: str, span: tuple[int, int], ended_at: int | None
) -> ReportedWait | None:
    """The part of a wait that lies within the range; None if none does."""
    part = clipped(span, since, until)
    if part is None:
        return None
    return {
        "waited_for": waited_for,
        "reason": reason,
        "since": part[0],
        "ended_at": ended_at,
        "waited_ms": part[1] - part[0],
    }


def together(found: Iterable[ReportedWait]) -> Waited:
    waits = list(found)
    longest = sorted(waits, key=lambda wait: wait["waited_ms"], reverse=True)[:KEPT_WAITS]
    return {
        "waits": sorted(longest, key=lambda wait: wait["since"]),
        "waits_omitted": len(waits) - len(longest),
        "waited_ms": total((wait["since"], wait["since"] + wait["waited_ms"]) for wait in waits),
    }


def _add_tests(tests: ReportedTests, event: Event) -> None:
    passed, failed = count(event.data, "passed"), count(event.data, "failed")
    tests["runs"] += 1
    tests["failed"] += failed or 0
    tests["passing"] += bool(passed) and failed == 0


def _add_commit(counted: Counted, event: Event, moment: int) -> None:
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


def _add_error(counted: Counted, event: Event, moment: int) -> None:
    counted["errors"] += 1
    error: ErrorSummary = {
        "seq": event.seq,
        "at": moment,
        "story_id": event.story_id,
        "error": text(event.data, "error") or "no message",
    }
    counted["latest_errors"] = [*counted["latest_errors"][1 - KEPT_ERRORS :], error]

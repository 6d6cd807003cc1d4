"""What events do to their story: attempts, test runs, commits."""

from __future__ import annotations

from typing import Any

from claude_loop.events import OBSERVERS
from claude_loop.progress.documents import RunDocument, StoryDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import Attempt, AttemptOutcome, CommitSummary, StoryInWork, TestSummary
from claude_loop.progress.reading import (
    LONGEST_NAME,
    LONGEST_TEXT,
    commit_hash,
    count,
    line,
    number,
    outcome,
    text,
    time_ms,
)
from claude_loop.progress.timing import estimate_end, record_story_time

KEPT_ATTEMPTS = 12
KEPT_TEST_RUNS = 12
KEPT_COMMITS = 12
# More stories than this at work at once only lose their place in the list, not their state.
KEPT_RUNNING = 32
NAMED_FAILURES = 10


def started(draft: Draft) -> None:
    """`story.started`: the next attempt. What was proved before it counts no more."""
    story, moment = draft.story, draft.moment
    if story is None:
        return
    draft.reopen_run()
    _end_attempt(draft, story, "restarted")
    story["attempt"] += 1
    attempt: Attempt = {
        "attempt": story["attempt"],
        "started_at": moment,
        "finished_at": None,
        "worked_ms": None,
        "outcome": "running",
    }
    story["attempts"] = [*story["attempts"][1 - KEPT_ATTEMPTS :], attempt]
    _note_left(draft.run, story["story_id"], is_left=False)
    story["waited_before_ms"] = draft.run["waited_ms"]
    story["completed"] = story["done_before"] = False
    story["success"] = story["blocked"] = story["finished_at"] = None
    _keep_proof(draft, story)
    if story["started_at"] is None:
        story["started_at"] = moment
    title = text(draft.data, "title", LONGEST_TEXT)
    if title is not None:
        story["title"] = title
    _enter(draft.run, story, moment)
    if draft.event.source in OBSERVERS:
        _adopt(draft, story)
    draft.run_draft.settle(story)
    if draft.run["finished_at"] is not None:  # told late: nobody works on it any more
        leave_open_stories(draft)


def _keep_proof(draft: Draft, story: StoryDocument) -> None:
    """What was proved before the attempt counts no more. An observer hears of a start late: what is of the story and
    came after it is of this attempt."""
    is_heard_late = draft.event.source in OBSERVERS
    test, commit = story["last_test"], story["last_commit"]
    story["last_test"] = story["last_commit"] = None
    if is_heard_late and test is not None and test["at"] >= draft.moment:
        test = story["last_test"] = {**test, "attempt": story["attempt"]}
        story["test_runs"] = [*story["test_runs"][:-1], test]
    if is_heard_late and commit is not None and commit["at"] >= draft.moment:
        commit = story["last_commit"] = {**commit, "attempt": story["attempt"]}
        story["recent_commits"] = [*story["recent_commits"][:-1], commit]


def _adopt(draft: Draft, story: StoryDocument) -> None:
    """Take up what was seen while no story was known to be at work: an observer hears of a start a moment late.
    What was ``after`` others had passed is of this one, ``until`` it passed itself; what was before may be of those."""
    run, after, until = draft.run, time_ms(draft.data, "after") or 0, time_ms(draft.data, "until")
    test, commit = run["last_test"], run["last_commit"]
    if test is not None and _is_within(test["at"], after, until):
        _adopt_test(run, story)
    if commit is not None and commit["story_id"] is None and _is_within(commit["at"], after, until):
        commit = commit.copy()
        commit["story_id"], commit["attempt"] = story["story_id"], story["attempt"]
        run["last_commit"] = commit
        _add_commit(story, commit)


def _adopt_tests_of(run: RunDocument, story: StoryDocument) -> None:
    """The last test run of a run is often heard when all is over and nobody at work: it is of the story whose attempt
    it was in."""
    test, attempts = run["last_test"], story["attempts"]
    if test is not None and attempts and _is_within(test["at"], attempts[-1]["started_at"], story["finished_at"]):
        _adopt_test(run, story)


def _is_within(at: int, after: int, until: int | None) -> bool:
    return at >= after and (until is None or at <= until)


def _adopt_test(run: RunDocument, story: StoryDocument) -> None:
    test = run["last_test"]
    if test is not None and test["story_id"] is None:
        test = test.copy()
        test["story_id"], test["attempt"] = story["story_id"], story["attempt"]
        run["last_test"] = test
        _add_test(story, test)


def completed(draft: Draft) -> None:
    """`story.completed`: the attempt is over, with or without success."""
    story, success = draft.story, outcome(draft.data)
    if story is None or (story["completed"] and story["success"] is success and not story["done_before"]):
        return  # of no story, or said before
    story["done_before"] = False
    done = success is not False
    was_done = story["completed"] and story["success"] is not False
    is_timed = not _was_with_others(draft)
    _end_attempt(draft, story, "completed" if done else "failed", is_timed=is_timed)
    story["completed"] = True
    story["success"] = success
    story["blocked"] = None
    story["finished_at"] = draft.moment if done else None
    if done and draft.event.source in OBSERVERS:
        _adopt_tests_of(draft.run, story)
    _leave(draft.run, story)
    draft.run_draft.settle(story)
    if done and not was_done:
        if story["attempt"] and is_timed:
            record_story_time(draft.run, story["worked_ms"])
        estimate_end(draft.run, draft.moment)


def _was_with_others(draft: Draft) -> bool:
    """Several passed unseen, ``together``: the span is that of all of them."""
    return draft.event.source in OBSERVERS and (count(draft.data, "together") or 0) > 1


def blocked(draft: Draft) -> None:
    """`story.blocked`: it cannot go on until it is started again."""
    story = draft.story
    if story is None:
        return
    _end_attempt(draft, story, "blocked")
    story["blocked"] = text(draft.data, "reason") or "no reason given"
    story["completed"] = False
    story["success"] = story["finished_at"] = None
    _leave(draft.run, story)
    draft.run_draft.settle(story)


def leave_open_stories(draft: Draft) -> None:
    """The run has ended: nobody works on what was started and not completed."""
    for entry in draft.run["running"]:
        story = draft.run_draft.touch_story(entry["story_id"], draft.moment)
        _end_attempt(draft, story, "left")
        draft.run_draft.settle(story)
    if draft.run["running"]:
        draft.run["running"] = []
        draft.run["current"] = None


def tested(draft: Draft) -> None:
    """`test.run`."""
    run, story = draft.run, draft.story
    test = _test_summary(draft, story)
    run["tests"] += 1
    run["last_test"] = test
    if story is not None:
        _add_test(story, test)
        draft.run_draft.settle(story)


def _add_test(story: StoryDocument, test: TestSummary) -> None:
    story["tests"] += 1
    story["test_runs"] = [*story["test_runs"][1 - KEPT_TEST_RUNS :], test]
    story["last_test"] = test


def _test_summary(draft: Draft, story: StoryDocument | None) -> TestSummary:
    data = draft.data
    passed, failed = count(data, "passed"), count(data, "failed")
    failures, duration_ms = data.get("failures"), number(data, "duration_ms")
    names, unnamed = _failing_names(failures) if failures else ([], 0)
    if failed == 0:  # the spool keeps what contradicts itself; a test that is named has failed
        failed = len(names) + unnamed
    if failed and failed - len(names) > unnamed:
        unnamed = failed - len(names)
    return {
        "seq": draft.event.seq,
        "at": draft.moment,
        "story_id": None if story is None else story["story_id"],
        "attempt": 0 if story is None else story["attempt"],
        "passed": passed,
        "failed": failed,
        "total": count(data, "total"),
        "duration_ms": None if duration_ms is None else round(duration_ms),
        "failing": names,
        "failing_more": unnamed,
    }


def _failing_names(failures: Any) -> tuple[list[str], int]:
    """The first names, and how many failures go without."""
    if type(failures) is not list:
        return [], 0
    names: list[str] = []
    for failure in failures:
        name = line(failure.get("name") if type(failure) is dict else failure, LONGEST_NAME)
        if name is not None:
            names.append(name)
            if len(names) == NAMED_FAILURES:
                break
    return names, len(failures) - len(names)


def committed(draft: Draft) -> None:
    """`commit.created`. Without a hash nothing was committed."""
    run, story, data = draft.run, draft.story, draft.data
    hash_ = commit_hash(data)
    if hash_ is None:
        return
    commit: CommitSummary = {
        "seq": draft.event.seq,
        "at": draft.moment,
        "story_id": None if story is None else story["story_id"],
        "attempt": 0 if story is None else story["attempt"],
        "hash": hash_,
        "subject": text(data, "subject", LONGEST_TEXT),
        "branch": text(data, "branch", LONGEST_NAME),
    }
    if story is not None and draft.event.source in OBSERVERS and _follows_test(run, draft.moment):
        _adopt_test(run, story)
    amends = text(data, "amends", LONGEST_NAME)
    if not _stands_in_for(run["last_commit"], amends):
        run["commits"] += 1
    run["last_commit"] = commit
    if story is not None:
        if _stands_in_for(story["last_commit"], amends):
            story["recent_commits"] = story["recent_commits"][:-1]
            story["commits"] -= 1
        _add_commit(story, commit)
        draft.run_draft.settle(story)


def _follows_test(run: RunDocument, moment: int) -> bool:
    """Whether the last test run was before this commit and after the one before it: both are of one piece of work."""
    test, commit = run["last_test"], run["last_commit"]
    return test is not None and test["at"] <= moment and (commit is None or commit["seq"] < test["seq"])


def _add_commit(story: StoryDocument, commit: CommitSummary) -> None:
    story["commits"] += 1
    story["recent_commits"] = [*story["recent_commits"][1 - KEPT_COMMITS :], commit]
    story["last_commit"] = commit


def _stands_in_for(last: CommitSummary | None, amends: str | None) -> bool:
    """An amended commit is the same one over again. The one before it may have been reported with a short hash."""
    return amends is not None and last is not None and len(last["hash"]) >= 7 and amends.startswith(last["hash"])


def _end_attempt(draft: Draft, story: StoryDocument, outcome_: AttemptOutcome, *, is_timed: bool = True) -> None:
    """Close the last attempt; one that was closed already only changes its outcome and end. One that is not timed
    adds nothing to what was worked."""
    if not story["attempts"]:
        return
    last = story["attempts"][-1]
    if last["worked_ms"] is not None and outcome_ in ("restarted", "left", "blocked"):
        return
    ended_at = draft.moment if outcome_ != "left" else draft.run["finished_at"] or draft.moment
    waited = draft.run["waited_ms"] - story["waited_before_ms"]
    worked = max(0, ended_at - last["started_at"] - waited) if is_timed else 0
    story["worked_ms"] += worked - (last["worked_ms"] or 0)
    ended: Attempt = {
        "attempt": last["attempt"],
        "started_at": last["started_at"],
        "finished_at": max(ended_at, last["started_at"]),
        "worked_ms": worked,
        "outcome": outcome_,
    }
    story["attempts"] = [*story["attempts"][:-1], ended]
    _note_left(draft.run, story["story_id"], is_left=outcome_ == "left")


def _note_left(run: RunDocument, story_id: str, *, is_left: bool) -> None:
    if is_left != (story_id in run["left"]):
        run["left"] = sorted({*run["left"], story_id} if is_left else {*run["left"]} - {story_id})[-KEPT_RUNNING:]


def _enter(run: RunDocument, story: StoryDocument, moment: int) -> None:
    others = [entry for entry in run["running"] if entry["story_id"] != story["story_id"]]
    entry: StoryInWork = {
        "story_id": story["story_id"],
        "title": story["title"],
        "attempt": story["attempt"],
        "since": moment,
    }
    run["running"] = [*others[1 - KEPT_RUNNING :], entry]
    run["current"] = entry


def _leave(run: RunDocument, story: StoryDocument) -> None:
    if any(entry["story_id"] == story["story_id"] for entry in run["running"]):
        run["running"] = [entry for entry in run["running"] if entry["story_id"] != story["story_id"]]
        run["current"] = run["running"][-1] if run["running"] else None

"""What events do to their run: how it begins and ends, iterates, pauses and vanishes, and what it plans."""

from __future__ import annotations

from typing import Any

from claude_loop.progress import sessions
from claude_loop.progress.documents import RunDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import ErrorSummary, Owner, ProgressSummary
from claude_loop.progress.plans import entitle
from claude_loop.progress.reading import (
    LONGEST_NAME,
    count,
    line,
    number,
    outcome,
    text,
    whole,
)
from claude_loop.progress.stories import leave_open_stories
from claude_loop.progress.timing import estimate_end
from claude_loop.progress.waits import end_waits

KEPT_ERRORS = 10


def started(draft: Draft) -> None:
    """`prd.started`, `run.started`: a run begins, or says more about its beginning, or begins again."""
    run, data, event = draft.run, draft.data, draft.event
    draft.reopen_run()
    run["paused"] = None
    if event.type not in run["begun_by"]:
        run["begun_by"] = [*run["begun_by"], event.type]
    entitle(draft)
    owner = _owner(data.get("owner"))
    if owner is not None and owner != run["owner"]:
        run["owner"] = owner
        run["owned"] = False
    total = count(data, "total_stories")
    if total is not None:
        draft.run_draft.expect_stories(total)
    _iterations(run, data)


def _owner(value: Any) -> Owner | None:
    pid = count(value, "pid") if type(value) is dict else None
    if not pid:
        return None
    return {
        "pid": pid,
        "start_ticks": count(value, "start_ticks"),
        "boot_id": line(value.get("boot_id"), LONGEST_NAME),
        "pid_namespace": line(value.get("pid_namespace"), LONGEST_NAME),
    }


def completed(draft: Draft) -> None:
    """`prd.completed`, `run.completed`: the run ends, and whatever was open in it."""
    run, data = draft.run, draft.data
    success = outcome(data)
    if draft.event.type == "prd.completed":
        run["prd_success"] = success
    else:
        code = whole(data, "exit_code")
        run["run_success"] = code == 0 if success is None and code is not None else success
        run["exit_code"] = code
    run["finished_at"] = draft.moment
    end_waits(draft, None)
    run["paused"] = None
    leave_open_stories(draft)
    sessions.end_all(draft)
    estimate_end(run, draft.moment)


def iterated(draft: Draft) -> None:
    """`iteration.started`, `iteration.completed`."""
    if draft.event.type == "iteration.started":
        draft.reopen_run()
    _iterations(draft.run, draft.data)


def _iterations(run: RunDocument, data: dict[str, Any]) -> None:
    iteration, most = count(data, "iteration"), count(data, "max_iterations")
    if iteration is not None:
        run["iteration"] = iteration
    if most is not None:
        run["max_iterations"] = most


def paused(draft: Draft) -> None:
    run = draft.run
    if run["finished_at"] is None and run["paused"] is None:
        run["paused"] = {"since": draft.moment, "reason": text(draft.data, "reason")}


def unpaused(draft: Draft) -> None:
    draft.run["paused"] = None


def archived(draft: Draft) -> None:
    """`prd.archived`: of the whole PRD. Marked as invalid, it did not come from the daemon."""
    if "_invalid" not in draft.data:
        draft.prd()["archived_at"] = draft.moment


def unarchived(draft: Draft) -> None:
    if "_invalid" not in draft.data:
        draft.prd()["archived_at"] = None


def owned(draft: Draft) -> None:
    """`system.run_owned`: the daemon has seen the owner alive."""
    if _is_owner(draft):
        draft.run["owned"] = True


def vanished(draft: Draft) -> None:
    """`system.run_vanished`: the daemon has seen that the owner is gone."""
    if _is_owner(draft) and draft.run["finished_at"] is None:
        draft.run["vanished_at"] = draft.moment
        sessions.end_all(draft)


def _is_owner(draft: Draft) -> bool:
    owner, pid = draft.run["owner"], count(draft.data, "pid")
    return owner is None or pid is None or owner["pid"] == pid


def failed(draft: Draft) -> None:
    """`error.occurred`."""
    run, story = draft.run, draft.story
    error: ErrorSummary = {
        "seq": draft.event.seq,
        "at": draft.moment,
        "story_id": None if story is None else story["story_id"],
        "error": text(draft.data, "error") or "no message",
    }
    run["errors"] += 1
    run["last_error"] = error
    run["recent_errors"] = [*run["recent_errors"][1 - KEPT_ERRORS :], error]
    if story is not None:
        story["errors"] += 1
        story["last_error"] = error
        draft.run_draft.settle(story)


def logged(draft: Draft) -> None:
    """`log.message`: of what is said an agent's promise is kept."""
    promise = text(draft.data, "promise", LONGEST_NAME)
    if promise is not None:
        draft.run["promise"], draft.run["promised_at"] = promise, draft.moment


def progressed(draft: Draft) -> None:
    """`progress.updated`: of the story it names, else of the run."""
    current, total = number(draft.data, "current"), number(draft.data, "total")
    if current is None or total is None:
        return
    progress: ProgressSummary = {
        "at": draft.moment,
        "current": current,
        "total": total,
        "message": text(draft.data, "message"),
    }
    if draft.story is None:
        draft.run["progress"] = progress
    else:
        draft.story["progress"] = progress
        draft.run_draft.settle(draft.story)


def printed(draft: Draft) -> None:
    """`output.chunk`: what a wrapped run printed."""
    offset, size = count(draft.data, "offset"), count(draft.data, "bytes")
    if offset is not None and size is not None:
        draft.run["output_bytes"] = max(draft.run["output_bytes"], offset + size)


def notified(draft: Draft) -> None:
    """`alert.sent`: a person has been told."""
    draft.run["notified"] = {
        "kind": text(draft.data, "kind", LONGEST_NAME) or "run",
        "at": draft.moment,
        "channel": text(draft.data, "channel", LONGEST_NAME),
    }


def resolved(draft: Draft) -> None:
    """`alert.resolved`: what a person was told of has ended."""
    draft.run["notified"] = None

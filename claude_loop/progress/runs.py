"""What events do to their run: how it begins and ends, iterates, waits, pauses and vanishes."""

from __future__ import annotations

from typing import Any, cast

from claude_loop.progress.documents import ErrorSummary, Owner, ProgressSummary, RunDocument, Waiting, WaitingFor
from claude_loop.progress.draft import Draft
from claude_loop.progress.reading import (
    LONGEST_NAME,
    LONGEST_TEXT,
    count,
    line,
    number,
    outcome,
    text,
    time_ms,
    whole,
)
from claude_loop.progress.stories import leave_open_stories
from claude_loop.progress.timing import estimate_end

KEPT_WAITS = 8
KEPT_PAST_WAITS = 20
KEPT_ERRORS = 10
# Most urgent first: a person can act now, a limit ends by itself.
_URGENCY = {"human": 0, "other": 1, "rate_limit": 2}


def started(draft: Draft) -> None:
    """`prd.started`, `run.started`: a run begins, or says more about its beginning, or begins again."""
    run, data, event = draft.run, draft.data, draft.event
    draft.reopen_run()
    run["paused"] = None
    if event.type not in run["begun_by"]:
        run["begun_by"] = [*run["begun_by"], event.type]
    title = text(data, "title", LONGEST_TEXT)
    if title is not None and draft.prd()["title"] != title:
        draft.prd()["title"] = title
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


def waiting(draft: Draft) -> None:
    """`agent.waiting`: one wait a session; the latest word of a session replaces the one before."""
    run, data = draft.run, draft.data
    if run["finished_at"] is not None:
        return
    session_id = draft.event.session_id
    known = next((wait for wait in run["waits"] if wait["session_id"] == session_id), None)
    waits_for = data.get("for")
    wait: Waiting = {
        "for": cast("WaitingFor", waits_for) if type(waits_for) is str and waits_for in _URGENCY else "other",
        "reason": text(data, "reason") or "no reason given",
        "since": draft.moment,
        "until": time_ms(data, "until"),
        "overdue": False,
        "story_id": draft.event.story_id,
        "session_id": session_id,
    }
    if known is not None and (known["for"], known["reason"]) == (wait["for"], wait["reason"]):
        wait["since"] = known["since"]  # said again: the same wait, perhaps with another end
    _keep_waits(run, [*(other for other in run["waits"] if other is not known), wait][-KEPT_WAITS:])


def resumed(draft: Draft) -> None:
    end_waits(draft, draft.event.session_id)


def end_waits(draft: Draft, session_id: str | None) -> None:
    """End the waits of this session and those that name none; without a session, all."""
    run, moment = draft.run, draft.moment
    ended = [wait for wait in run["waits"] if session_id is None or wait["session_id"] in (None, session_id)]
    if not ended:
        return
    _keep_waits(run, [wait for wait in run["waits"] if wait not in ended])
    past = run["past_waits"].copy()
    for wait in ended:
        past.append(
            {
                "waited_for": wait["for"],
                "reason": wait["reason"],
                "since": wait["since"],
                "ended_at": max(moment, wait["since"]),
                "story_id": wait["story_id"],
            }
        )
    run["past_waits"] = past[-KEPT_PAST_WAITS:]
    if not run["waits"]:
        waited = max(0, moment - min(wait["since"] for wait in ended))
        run["waited_ms"] += waited
        estimate = run["estimate"]
        if estimate is not None:
            run["estimate"] = {
                "from_at": estimate["from_at"] + waited,
                "to_at": estimate["to_at"] + waited,
                "stories": estimate["stories"],
            }


def _keep_waits(run: RunDocument, waits: list[Waiting]) -> None:
    run["waits"] = waits
    run["waiting"] = min(waits, key=lambda wait: (_URGENCY[wait["for"]], wait["since"]), default=None)


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

"""What agents wait for: one wait a session, and those of a run together."""

from __future__ import annotations

from typing import Any, cast

from claude_loop.events import Event
from claude_loop.progress.documents import RunDocument, Waiting, WaitingFor
from claude_loop.progress.draft import Draft
from claude_loop.progress.reading import identifier, text, time_ms

KEPT_WAITS = 8
KEPT_PAST_WAITS = 20
# Most urgent first: a person can act now, a limit ends by itself.
_URGENCY = {"human": 0, "other": 1, "rate_limit": 2}


def wait_of(event: Event, data: dict[str, Any], moment: int, known: Waiting | None) -> Waiting:
    """What `agent.waiting` says. ``known`` is the wait that the session was in; said again, it is the same one."""
    waits_for = data.get("for")
    wait: Waiting = {
        "for": cast("WaitingFor", waits_for) if type(waits_for) is str and waits_for in _URGENCY else "other",
        "reason": text(data, "reason") or "no reason given",
        "since": moment,
        "until": time_ms(data, "until"),
        "overdue": False,
        "story_id": event.story_id,
        "session_id": event.session_id,
        "agent_id": identifier(data.get("agent_id")),
    }
    if known is not None and (known["for"], known["reason"]) == (wait["for"], wait["reason"]):
        wait["since"] = known["since"]
    return wait


def is_ended_by_work(wait: Waiting, event: Event) -> bool:
    """Whether work of the wait's session shows that the wait is over. A subagent that waits is not helped by what
    the others of its session do."""
    if not event.type.startswith("tool."):
        return True
    data = event.data if type(event.data) is dict else {}
    return wait["agent_id"] == identifier(data.get("agent_id"))


def waiting(draft: Draft) -> None:
    """`agent.waiting`: one wait a session; the latest word of a session replaces the one before."""
    run = draft.run
    if run["finished_at"] is not None:
        return
    session_id = draft.event.session_id
    known = next((wait for wait in run["waits"] if wait["session_id"] == session_id), None)
    wait = wait_of(draft.event, draft.data, draft.moment, known)
    _keep_waits(run, [*(other for other in run["waits"] if other is not known), wait][-KEPT_WAITS:])


def resumed(draft: Draft) -> None:
    """`agent.resumed`."""
    end_waits(draft, draft.event.session_id)


def turned_idle(draft: Draft) -> None:
    """`agent.idle`: a turn is over, so nobody is asked any more; a limit stays what it is."""
    session_id = draft.event.session_id
    _end(draft, [w for w in draft.run["waits"] if w["for"] != "rate_limit" and w["session_id"] == session_id])


def worked(draft: Draft) -> None:
    """Work ends the waits of its session."""
    event = draft.event
    _end(draft, [wait for wait in _of_session(draft.run, event.session_id) if is_ended_by_work(wait, event)])


def end_waits(draft: Draft, session_id: str | None) -> None:
    """End the waits of this session and those that name none; without a session, all."""
    _end(draft, _of_session(draft.run, session_id))


def _of_session(run: RunDocument, session_id: str | None) -> list[Waiting]:
    return [wait for wait in run["waits"] if session_id is None or wait["session_id"] in (None, session_id)]


def _end(draft: Draft, ended: list[Waiting]) -> None:
    run, moment = draft.run, draft.moment
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

"""What agents wait for: one wait a session, and those of a run together."""

from __future__ import annotations

from typing import Any, cast

from claude_loop.events import OBSERVERS, Event
from claude_loop.progress.documents import RunDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import Waiting, WaitingFor
from claude_loop.progress.reading import identifier, text, time_ms

KEPT_WAITS = 8
KEPT_PAST_WAITS = 20
# These tell of work that is over by the time they see it: it says nothing about now.
_LOOKING_BACK = frozenset({"git", "prd.json"})
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
    if known is None:
        return wait
    if known["for"] == wait["for"] == "human" and data.get("kind") == "permission" and "tool" not in data:
        # The prompt for it, told in general words a moment after the request, which names the command.
        return known.copy()
    if (known["for"], known["reason"]) == (wait["for"], wait["reason"]) or _is_one_limit(known, wait):
        wait["since"] = known["since"]
        wait["until"] = wait["until"] or known["until"]
    return wait


def _is_one_limit(known: Waiting, wait: Waiting) -> bool:
    """Whether two reports of a limit are of the same one, though their words differ."""
    if known["for"] != "rate_limit" or wait["for"] != "rate_limit":
        return False
    return known["until"] is None or wait["until"] is None or abs(known["until"] - wait["until"]) < 60_000


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
    known = _known(run, draft.event)
    wait = wait_of(draft.event, draft.data, draft.moment, known)
    if draft.story is not None:
        wait["story_id"] = draft.story["story_id"]
    if known is not None and wait["session_id"] is None:
        wait["session_id"] = known["session_id"]
    _keep_waits(run, [*(other for other in run["waits"] if other is not known), wait][-KEPT_WAITS:])


def _known(run: RunDocument, event: Event) -> Waiting | None:
    """The wait that this event tells of again: its session's own; or a limit that the loop's output tells too, which
    names no session."""
    own = next((wait for wait in run["waits"] if wait["session_id"] == event.session_id), None)
    if own is not None or event.source not in OBSERVERS or event.data.get("for") != "rate_limit":
        return own
    limits = [wait for wait in run["waits"] if wait["for"] == "rate_limit"]
    return next((limit for limit in limits if event.session_id is None or limit["session_id"] is None), None)


def left(draft: Draft) -> None:
    """`session.ended`: nobody is asked any more. A limit holds the run all the same, whoever hit it."""
    run, session_id = draft.run, draft.event.session_id
    if session_id is None or not run["waits"]:
        return
    waits = [w for w in run["waits"] if w["session_id"] == session_id]
    _end(draft, [w for w in waits if w["for"] != "rate_limit"])
    if any(w["for"] == "rate_limit" for w in waits):
        _keep_waits(run, [{**w, "session_id": None} if w["session_id"] == session_id else w for w in run["waits"]])


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
    if event.source in _LOOKING_BACK:
        return
    waits = _of_session(draft.run, event.session_id)
    if event.source in OBSERVERS:
        waits = [wait for wait in waits if _is_news_for(wait, event, draft.moment)]
    _end(draft, [wait for wait in waits if is_ended_by_work(wait, event)])


def _is_news_for(wait: Waiting, event: Event, moment: int) -> bool:
    """An observer may be late with what happened before the wait began. And what is seen in a loop's output says
    nothing about a session that speaks for itself, unless the loop has gone on to the next one."""
    if moment < wait["since"]:
        return False
    return event.session_id is not None or wait["session_id"] is None or event.type == "iteration.started"


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

"""What events do to the session of the agent that caused them, and to the line of it on its run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_loop.events import Event
from claude_loop.progress.activity import activity_of
from claude_loop.progress.documents import AgentLine, RunDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.reading import LONGEST_NAME, LONGEST_TEXT, count, identifier, line, number, text, time_ms
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.states import doing_of, judge_session
from claude_loop.progress.waits import is_ended_by_work, wait_of

KEPT_CALLS = 16
KEPT_SUBAGENTS = 16
KEPT_STORIES = 20
KEPT_AGENTS = 8
# These types tell of a session. Others, such as a test run that a script reports, may name one.
_TELL = frozenset({"session", "tool", "prompt", "agent", "subagent", "task"})

Rule = Callable[[SessionDocument, Event, dict[str, Any], int], None]


def follow(draft: Draft, event: Event, moment: int, run: RunDocument | None, story_id: str | None) -> None:
    """Fold an event that names a session into it. ``run`` is the event's, if it has a PRD; ``story_id`` its story."""
    tells = event.type.partition(".")[0] in _TELL
    session = draft.touch_session(event, moment, opens=tells)
    if session is None:
        return
    session["last"] = {"seq": event.seq, "at": max(moment, session["last"]["at"]), "type": event.type}
    if run is not None:
        _move_to(draft, session, run)
    if story_id is not None and story_id != session["story_id"]:
        session["story_id"] = story_id
        session["stories"] = [*session["stories"][1 - KEPT_STORIES :], {"story_id": story_id, "since": moment}]
    if tells:
        _show_life(session, event, moment)
    rule = RULES.get(event.type)
    if rule is not None:
        data = event.data
        rule(session, event, data if type(data) is dict else {}, moment)
    _settle(session, moment)
    if run is not None:
        _show(run, session)


def _move_to(draft: Draft, session: SessionDocument, run: RunDocument) -> None:
    """A session that is resumed in a later run works there and nowhere else."""
    before = session["run_id"]
    if before is not None and before != run["run_id"]:
        left = draft.touch_run(before)
        if left is not None:
            left.document["agents"] = _others(left.document, session)
    session["run_id"] = run["run_id"]


def _show_life(session: SessionDocument, event: Event, moment: int) -> None:
    if session["ended_at"] is not None and event.type != "session.ended":
        session["ended_at"] = None
        session["opened_at"] = moment
    session["retrying"] = None
    if activity_of(event.type) == "work":
        session["idle"] = False
        wait = session["waiting"]
        if wait is not None and is_ended_by_work(wait, event):
            session["waiting"] = None


def _settle(session: SessionDocument, moment: int) -> None:
    session["state"] = judge_session(session)
    doing = doing_of(session)
    if doing != session["doing"]:
        session["doing"] = doing
        session["doing_since"] = None if doing is None else moment


def _others(run: RunDocument, session: SessionDocument) -> list[AgentLine]:
    return [agent for agent in run["agents"] if agent["session_id"] != session["session_id"]]


def _show(run: RunDocument, session: SessionDocument) -> None:
    """Keep the run's line of this agent in step."""
    if session["ended_at"] is not None or run["finished_at"] is not None:
        run["agents"] = _others(run, session)
        return
    now: AgentLine = {
        "session_id": session["session_id"],
        "agent": session["agent"],
        "state": session["state"],
        "doing": session["doing"],
        "since": session["doing_since"] or session["last"]["at"],
        "last_at": session["last"]["at"],
        "story_id": session["story_id"],
    }
    known = [agent["session_id"] for agent in run["agents"]]
    if now["session_id"] in known:
        place = known.index(now["session_id"])
        run["agents"] = [*run["agents"][:place], now, *run["agents"][place + 1 :]]
    else:
        run["agents"] = [*run["agents"][1 - KEPT_AGENTS :], now]


def end_all(draft: Draft) -> None:
    """The run has ended, and its agents with it."""
    for agent in draft.run["agents"]:
        session = draft.known_session(draft.run, agent["session_id"])
        if session is not None:
            _end(session, draft.moment)
            _settle(session, draft.moment)
    draft.run["agents"] = []


def _end(session: SessionDocument, moment: int) -> None:
    session["ended_at"] = moment
    session["open_calls"] = []
    session["subagents"] = []
    session["waiting"] = session["retrying"] = session["compacting_since"] = None
    session["idle"] = False


def _started(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event
    for field in ("agent", "model", "title", "cwd"):
        said = text(data, field, LONGEST_TEXT if field in ("title", "cwd") else LONGEST_NAME)
        if said is not None:
            session[field] = said
    session["compacting_since"] = None
    if data.get("reason") != "compact":  # that one comes in the middle of a turn
        session["opened_at"] = moment
        session["open_calls"] = []
        session["subagents"] = []
        session["waiting"] = None
        session["idle"] = True


def _ended(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, data
    _end(session, moment)


def _prompted(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, moment
    session["prompts"] += 1
    session["last_prompt"] = text(data, "prompt")
    if data.get("origin") in (None, "user", "sdk"):
        session["open_calls"] = []  # what a person interrupts never reports its end
    session["waiting"] = None


def _called(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event
    session["calls"] += 1
    call_id = identifier(data.get("call_id"))
    others = [call for call in session["open_calls"] if call_id is None or call["call_id"] != call_id]
    session["open_calls"] = [
        *others[1 - KEPT_CALLS :],
        {
            "call_id": call_id,
            "tool": text(data, "tool", LONGEST_NAME) or "a tool",
            "summary": text(data, "summary"),
            "since": moment,
            "agent_id": identifier(data.get("agent_id")),
        },
    ]


def _returned(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del moment
    if event.type == "tool.failed":
        session["failed_calls"] += 1
    call_id, tool = identifier(data.get("call_id")), text(data, "tool", LONGEST_NAME)
    agent_id = identifier(data.get("agent_id"))
    for place, call in enumerate(session["open_calls"]):
        by_id, by_name = call["call_id"] == call_id, (call["tool"], call["agent_id"]) == (tool, agent_id)
        if by_name if call_id is None else by_id:
            session["open_calls"] = session["open_calls"][:place] + session["open_calls"][place + 1 :]
            return
    session["calls"] += 1  # its start was not seen


def _said(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, moment
    session["last_message"] = text(data, "message")


def _waits(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    session["waiting"] = wait_of(event, data, moment, session["waiting"])
    session["idle"] = False


def _resumed(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, data, moment
    session["waiting"] = None
    session["idle"] = False


def _idle(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, data, moment
    session["open_calls"] = [call for call in session["open_calls"] if call["agent_id"] is not None]
    session["compacting_since"] = None
    if session["waiting"] is not None and session["waiting"]["for"] != "rate_limit":
        session["waiting"] = None
    session["idle"] = session["waiting"] is None


def _retries(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event
    session["idle"] = False
    session["retrying"] = {
        "error": text(data, "error") or "an error without words",
        "attempt": count(data, "attempt"),
        "max_attempts": count(data, "max_attempts"),
        "until": time_ms(data, "until"),
        "since": moment,
    }


def _compacting(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, data
    session["compacting_since"] = moment


def _compacted(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, data, moment
    session["compacting_since"] = None


def _subagent_started(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event
    agent_id = identifier(data.get("agent_id"))
    if agent_id is None:
        return
    session["subagents_seen"] += 1
    others = [agent for agent in session["subagents"] if agent["agent_id"] != agent_id]
    session["subagents"] = [
        *others[1 - KEPT_SUBAGENTS :],
        {
            "agent_id": agent_id,
            "agent_type": line(data.get("agent_type"), LONGEST_NAME),
            "description": text(data, "description"),
            "since": moment,
        },
    ]


def _subagent_ended(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event, moment
    agent_id = identifier(data.get("agent_id"))
    session["subagents"] = [agent for agent in session["subagents"] if agent["agent_id"] != agent_id]
    session["open_calls"] = [call for call in session["open_calls"] if agent_id is None or call["agent_id"] != agent_id]


def _progressed(session: SessionDocument, event: Event, data: dict[str, Any], moment: int) -> None:
    del event
    current, total = number(data, "current"), number(data, "total")
    if current is not None and total is not None:
        session["progress"] = {"at": moment, "current": current, "total": total, "message": text(data, "message")}


RULES: dict[str, Rule] = {
    "session.started": _started,
    "session.ended": _ended,
    "session.compacting": _compacting,
    "session.compacted": _compacted,
    "prompt.submitted": _prompted,
    "tool.started": _called,
    "tool.completed": _returned,
    "tool.failed": _returned,
    "agent.message": _said,
    "agent.waiting": _waits,
    "agent.resumed": _resumed,
    "agent.idle": _idle,
    "agent.retrying": _retries,
    "subagent.started": _subagent_started,
    "subagent.ended": _subagent_ended,
    "progress.updated": _progressed,
}

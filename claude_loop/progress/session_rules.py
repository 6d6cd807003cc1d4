"""What each type of event does to the session of the agent that caused it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from claude_loop.events import Event
from claude_loop.progress.reading import LONGEST_NAME, LONGEST_TEXT, count, identifier, line, number, text, time_ms
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.waits import wait_of

KEPT_CALLS = 16
KEPT_SUBAGENTS = 16


class Said(NamedTuple):
    """An event, what can be read of its data, when it counts as having happened, and the story found for it."""

    event: Event
    data: dict[str, Any]
    moment: int
    story_id: str | None


Rule = Callable[[SessionDocument, Said], None]


def is_end_of(call: Mapping[str, object], data: dict[str, Any]) -> bool:
    """Whether a tool's end is that of this call: by its id, or by tool and caller where it names none."""
    call_id = identifier(data.get("call_id"))
    if call_id is not None:
        return call["call_id"] == call_id
    return (call["tool"], call["agent_id"]) == (text(data, "tool", LONGEST_NAME), identifier(data.get("agent_id")))


def end(session: SessionDocument, moment: int) -> None:
    session["ended_at"] = moment
    session["open_calls"] = []
    session["subagents"] = []
    session["waiting"] = session["retrying"] = session["compacting_since"] = None
    session["idle"] = False


def _started(session: SessionDocument, said: Said) -> None:
    for field in ("agent", "model", "title", "cwd"):
        value = text(said.data, field, LONGEST_TEXT if field in ("title", "cwd") else LONGEST_NAME)
        if value is not None:
            session[field] = value
    session["compacting_since"] = None
    if said.data.get("reason") != "compact":  # that one comes in the middle of a turn
        session["opened_at"] = said.moment
        session["open_calls"] = []
        session["subagents"] = []
        session["waiting"] = None
        session["idle"] = True


def _ended(session: SessionDocument, said: Said) -> None:
    end(session, said.moment)


def _prompted(session: SessionDocument, said: Said) -> None:
    session["prompts"] += 1
    session["last_prompt"] = text(said.data, "prompt")
    if said.data.get("origin") in (None, "user", "sdk"):
        session["open_calls"] = []  # what a person interrupts never reports its end
    session["waiting"] = None


def _called(session: SessionDocument, said: Said) -> None:
    session["calls"] += 1
    call_id = identifier(said.data.get("call_id"))
    others = [call for call in session["open_calls"] if call_id is None or call["call_id"] != call_id]
    session["open_calls"] = [
        *others[1 - KEPT_CALLS :],
        {
            "call_id": call_id,
            "tool": text(said.data, "tool", LONGEST_NAME) or "a tool",
            "summary": text(said.data, "summary"),
            "since": said.moment,
            "agent_id": identifier(said.data.get("agent_id")),
        },
    ]


def _returned(session: SessionDocument, said: Said) -> None:
    if said.event.type == "tool.failed":
        session["failed_calls"] += 1
    ended = next((call for call in reversed(session["open_calls"]) if is_end_of(call, said.data)), None)
    if ended is None:
        session["calls"] += 1  # its start was not seen
    else:
        session["open_calls"] = [call for call in session["open_calls"] if call is not ended]


def _said(session: SessionDocument, said: Said) -> None:
    session["last_message"] = text(said.data, "message")


def _waits(session: SessionDocument, said: Said) -> None:
    wait = wait_of(said.event, said.data, said.moment, session["waiting"])
    wait["story_id"] = said.story_id  # the event's own is filled in later: a rebuild is to give the same
    session["waiting"] = wait
    session["idle"] = False


def _resumed(session: SessionDocument, _: Said) -> None:
    session["waiting"] = None
    session["idle"] = False


def _idle(session: SessionDocument, _: Said) -> None:
    session["open_calls"] = [call for call in session["open_calls"] if call["agent_id"] is not None]
    session["compacting_since"] = None
    if session["waiting"] is not None and session["waiting"]["for"] != "rate_limit":
        session["waiting"] = None
    session["idle"] = session["waiting"] is None


def _retries(session: SessionDocument, said: Said) -> None:
    session["idle"] = False
    session["retrying"] = {
        "error": text(said.data, "error") or "an error without words",
        "attempt": count(said.data, "attempt"),
        "max_attempts": count(said.data, "max_attempts"),
        "until": time_ms(said.data, "until"),
        "since": said.moment,
    }


def _failed(session: SessionDocument, said: Said) -> None:
    """Until it goes on: the turn may end here."""
    session["failed"] = {
        "seq": said.event.seq,
        "at": said.moment,
        "story_id": said.story_id,
        "error": text(said.data, "error") or "an error without words",
    }


def _compacting(session: SessionDocument, said: Said) -> None:
    session["compacting_since"] = said.moment


def _compacted(session: SessionDocument, _: Said) -> None:
    session["compacting_since"] = None


def _subagent_started(session: SessionDocument, said: Said) -> None:
    agent_id = identifier(said.data.get("agent_id"))
    if agent_id is None:
        return
    session["subagents_seen"] += 1
    others = [agent for agent in session["subagents"] if agent["agent_id"] != agent_id]
    session["subagents"] = [
        *others[1 - KEPT_SUBAGENTS :],
        {
            "agent_id": agent_id,
            "agent_type": line(said.data.get("agent_type"), LONGEST_NAME),
            "description": text(said.data, "description"),
            "since": said.moment,
        },
    ]


def _subagent_ended(session: SessionDocument, said: Said) -> None:
    agent_id = identifier(said.data.get("agent_id"))
    session["subagents"] = [agent for agent in session["subagents"] if agent["agent_id"] != agent_id]
    session["open_calls"] = [call for call in session["open_calls"] if agent_id is None or call["agent_id"] != agent_id]


def _progressed(session: SessionDocument, said: Said) -> None:
    current, total = number(said.data, "current"), number(said.data, "total")
    if current is not None and total is not None:
        session["progress"] = {
            "at": said.moment,
            "current": current,
            "total": total,
            "message": text(said.data, "message"),
        }


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
    "error.occurred": _failed,
}

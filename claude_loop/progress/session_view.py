"""One session from beginning to end, as a person reads it: what was asked and said, every tool call, every subagent.

The document of a session knows only what is going on. The whole is made from its events when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic describes these, and before Python 3.12 it needs this one

from claude_loop.events import Event
from claude_loop.progress.reading import LONGEST_NAME, identifier, line, moment_of, number, text
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.session_rules import is_end_of

Kind = Literal[
    "started",
    "prompt",
    "message",
    "waiting",
    "resumed",
    "idle",
    "retrying",
    "compacted",
    "test",
    "commit",
    "error",
    "ended",
]
LONGEST_PASSAGE = 2_000


class SessionView(SessionDocument):
    """A session as it stands now."""

    silent_ms: int  # since the last sign of life


class Passage(TypedDict):
    """One line of the outline."""

    seq: int
    at: int
    kind: Kind
    text: str | None
    agent_id: str | None


class Call(TypedDict):
    """One tool call. Without an end it is at work, or was never heard of again; ``ok`` is null then."""

    seq: int  # of its start, or of its end if only that was seen
    call_id: str | None
    tool: str
    summary: str | None
    started_at: int
    ended_at: int | None
    duration_ms: int | None
    ok: bool | None
    error: str | None
    agent_id: str | None


class Subagent(TypedDict):
    agent_id: str
    agent_type: str | None
    description: str | None
    started_at: int
    ended_at: int | None


class SessionDetail(TypedDict):
    """``GET /api/sessions/{id}``. ``omitted`` is true when the session has older events than these."""

    session: SessionView
    outline: list[Passage]
    calls: list[Call]
    subagents: list[Subagent]
    omitted: bool


class SessionList(TypedDict):
    """The one that gave the last sign of life comes first."""

    sessions: list[SessionView]


class Whole:
    """Folds the events of one session, in order."""

    def __init__(self) -> None:
        self.outline: list[Passage] = []
        self.calls: list[Call] = []
        self.subagents: dict[str, Subagent] = {}

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            data = event.data if type(event.data) is dict else {}
            if event.type in _PASSAGES:
                kind, words = _PASSAGES[event.type]
                self._say(event, kind, words(data), data)
            elif event.type == "tool.started":
                self.calls.append(_new_call(event, data))
            elif event.type in ("tool.completed", "tool.failed"):
                self._return(event, data)
            elif event.type in ("subagent.started", "subagent.ended"):
                self._subagent(event, data)

    def _say(self, event: Event, kind: Kind, words: str | None, data: dict[str, Any]) -> None:
        agent_id, moment = identifier(data.get("agent_id")), moment_of(event)
        self.outline.append({"seq": event.seq, "at": moment, "kind": kind, "text": words, "agent_id": agent_id})

    def _return(self, event: Event, data: dict[str, Any]) -> None:
        call = self._open_call(data)
        if call is None:
            call = _new_call(event, data)
            self.calls.append(call)
        ended, took = max(moment_of(event), call["started_at"]), number(data, "duration_ms")
        duration = ended - call["started_at"] if took is None else round(took)
        if call["seq"] == event.seq:  # its start was not seen
            call["started_at"] = ended - duration
        call["ended_at"], call["duration_ms"] = ended, duration
        call["ok"] = event.type == "tool.completed"
        call["error"] = text(data, "error")

    def _open_call(self, data: dict[str, Any]) -> Call | None:
        return next((c for c in reversed(self.calls) if c["ended_at"] is None and is_end_of(c, data)), None)

    def _subagent(self, event: Event, data: dict[str, Any]) -> None:
        agent_id, moment = identifier(data.get("agent_id")), moment_of(event)
        if agent_id is None:
            return
        known = self.subagents.get(agent_id)
        if known is None:
            known = self.subagents[agent_id] = {
                "agent_id": agent_id,
                "agent_type": line(data.get("agent_type"), LONGEST_NAME),
                "description": text(data, "description"),
                "started_at": moment,
                "ended_at": None,
            }
        if event.type == "subagent.ended":
            known["ended_at"] = moment


def _new_call(event: Event, data: dict[str, Any]) -> Call:
    return {
        "seq": event.seq,
        "call_id": identifier(data.get("call_id")),
        "tool": text(data, "tool", LONGEST_NAME) or "a tool",
        "summary": text(data, "summary"),
        "started_at": moment_of(event),
        "ended_at": None,
        "duration_ms": None,
        "ok": None,
        "error": None,
        "agent_id": identifier(data.get("agent_id")),
    }


def _field(name: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda data: _passage(data.get(name))


def _passage(value: Any) -> str | None:
    """Paragraphs stay as they are: this is read, not scanned."""
    if type(value) is not str or not value.strip():
        return None
    return value if len(value) <= LONGEST_PASSAGE else value[: LONGEST_PASSAGE - 1] + "…"


def _tests(data: dict[str, Any]) -> str | None:
    passed, failed = number(data, "passed"), number(data, "failed")
    return None if passed is None or failed is None else f"{passed:g} passed {failed:g} failed"


_PASSAGES: dict[str, tuple[Kind, Callable[[dict[str, Any]], str | None]]] = {
    "session.started": ("started", _field("reason")),
    "session.ended": ("ended", _field("reason")),
    "session.compacted": ("compacted", _field("trigger")),
    "prompt.submitted": ("prompt", _field("prompt")),
    "agent.message": ("message", _field("message")),
    "agent.waiting": ("waiting", _field("reason")),
    "agent.resumed": ("resumed", lambda _data: None),
    "agent.idle": ("idle", lambda _data: None),
    "agent.retrying": ("retrying", _field("error")),
    "test.run": ("test", _tests),
    "commit.created": ("commit", _field("subject")),
    "error.occurred": ("error", _field("error")),
}

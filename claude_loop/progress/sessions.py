"""An event that names an agent's session: its place in a run, its signs of life, the line of it on its run."""

from __future__ import annotations

from claude_loop.events import Event
from claude_loop.progress.activity import activity_of
from claude_loop.progress.documents import RunDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import AgentCall, AgentLine
from claude_loop.progress.reading import LONGEST_NAME, moment_of, text, time_ms
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.session_rules import RULES, Said, end
from claude_loop.progress.states import doing_of, judge_session
from claude_loop.progress.waits import is_ended_by_work

# After an error these say that the agent's work goes on, by itself or because somebody saw to it.
_GOES_ON = frozenset(
    {
        "session.started",
        "prompt.submitted",
        "tool.started",
        "agent.message",
        "agent.resumed",
        "agent.retrying",
        "agent.waiting",
    }
)
KEPT_STORIES = 20
KEPT_AGENTS = 8
# These types tell of a session. Others, such as a test run that a script reports, may name one.
_TELL = frozenset({"session", "tool", "prompt", "agent", "subagent", "task"})


def follow(draft: Draft, event: Event, moment: int, run: RunDocument | None, story_id: str | None) -> None:
    """Fold an event that names a session into it. ``run`` is the event's, if it has a PRD; ``story_id`` its story."""
    tells = event.type.partition(".")[0] in _TELL
    session = draft.touch_session(event, moment, opens=tells)
    if session is None:
        return
    cause = _cause(session)
    session["last"] = {"seq": event.seq, "at": max(moment, session["last"]["at"]), "type": event.type}
    if run is not None:
        _move_to(draft, session, run)
    if story_id is not None and story_id != session["story_id"]:
        session["story_id"] = story_id
        session["stories"] = [*session["stories"][1 - KEPT_STORIES :], {"story_id": story_id, "since": moment}]
    if event.type in _GOES_ON:
        session["failed"] = None
    if tells:
        _show_life(session, event, moment)
    rule = RULES.get(event.type)
    if rule is not None:
        data = event.data
        rule(session, Said(event, data if type(data) is dict else {}, moment, story_id))
    if cause != _cause(session):
        session["notified"] = None
    _settle(session, moment)
    if run is not None:
        _show(run, session)


def _cause(session: SessionDocument) -> int | None:
    """Since when there is something to tell a person: the agent waits, or its work ended in an error."""
    wait, failed = session["waiting"], session["failed"]
    if wait is not None:
        return wait["since"]
    return None if failed is None else failed["at"]


def tell(draft: Draft, event: Event) -> None:
    """`alert.sent` of a session without a PRD: a person was told, maybe of what is over by now."""
    session = None if event.session_id is None else draft.touch_session(event, moment_of(event), opens=False)
    cause = None if session is None else _cause(session)
    data = event.data if type(event.data) is dict else {}
    if session is not None and cause is not None and cause == time_ms(data, "since"):
        session["notified"] = {
            "kind": text(data, "kind", LONGEST_NAME) or "waiting",
            "at": moment_of(event),
            "channel": text(data, "channel", LONGEST_NAME),
        }


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


def _call_of(session: SessionDocument) -> AgentCall | None:
    if session["state"] != "running" or not session["open_calls"]:
        return None
    call = session["open_calls"][-1]
    return {"tool": call["tool"], "summary": call["summary"], "since": call["since"]}


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
        "call": _call_of(session),
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
            end(session, draft.moment)
            _settle(session, draft.moment)
    draft.run["agents"] = []

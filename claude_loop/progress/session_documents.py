"""The document of one agent's session. As in ``documents.py``, all is small: what a
session has done from beginning to end is in the log, and ``session_view.py`` makes a whole of it."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic describes these, and before Python 3.12 it needs this one

from claude_loop.progress.parts import ErrorSummary, Last, Notified, ProgressSummary, SessionState, Waiting


class OpenCall(TypedDict):
    """A tool at work."""

    call_id: str | None
    tool: str
    summary: str | None
    since: int
    agent_id: str | None  # the subagent's, if one called it


class OpenSubagent(TypedDict):
    agent_id: str
    agent_type: str | None
    description: str | None
    since: int


class Retrying(TypedDict):
    """The agent's service failed, and the agent tries again by itself."""

    error: str
    attempt: int | None
    max_attempts: int | None
    until: int | None
    since: int


class StorySpan(TypedDict):
    """From when on the session worked on a story; null: on none that was known."""

    story_id: str | None
    since: int


class SessionDocument(TypedDict):
    """Key ``session/<project>/<prd_id>/<session_id>``; of a session without a PRD ``agent/<project>/<session_id>``."""

    project: str | None
    prd_id: str | None
    run_id: str | None
    story_id: str | None  # the last one it worked on
    stories: list[StorySpan]  # the latest ones
    session_id: str
    agent: str | None  # claude, codex, …
    model: str | None
    title: str | None
    cwd: str | None
    state: SessionState
    doing: str | None  # in one line; null when it does nothing
    doing_since: int | None
    opened_at: int  # its beginning, or the last time it was taken up again
    first_at: int
    ended_at: int | None
    last: Last
    waiting: Waiting | None
    notified: Notified | None  # a person was told of its wait or its failure; of a session without a PRD only
    retrying: Retrying | None
    failed: ErrorSummary | None  # an error was the last that was heard of its work
    compacting_since: int | None
    idle: bool  # its turn is over: nobody waits for anybody
    calls: int
    failed_calls: int
    open_calls: list[OpenCall]
    subagents: list[OpenSubagent]  # at work
    subagents_seen: int
    prompts: int
    last_prompt: str | None
    last_message: str | None
    progress: ProgressSummary | None


def new_session(
    project: str | None, prd_id: str | None, session_id: str, seq: int, moment: int, opened_by: str
) -> SessionDocument:
    """A session of which nothing is known yet."""
    return {
        "project": project,
        "prd_id": prd_id,
        "run_id": None,
        "story_id": None,
        "stories": [],
        "session_id": session_id,
        "agent": None,
        "model": None,
        "title": None,
        "cwd": None,
        "state": "running",
        "doing": None,
        "doing_since": None,
        "opened_at": moment,
        "first_at": moment,
        "ended_at": None,
        "last": {"seq": seq, "at": moment, "type": opened_by},
        "waiting": None,
        "notified": None,
        "retrying": None,
        "failed": None,
        "compacting_since": None,
        "idle": False,
        "calls": 0,
        "failed_calls": 0,
        "open_calls": [],
        "subagents": [],
        "subagents_seen": 0,
        "prompts": 0,
        "last_prompt": None,
        "last_message": None,
        "progress": None,
    }


class KeptDocument(TypedDict):
    """Key ``kept/<project>/<prd_id>/``, or ``kept/<project>`` for sessions without a PRD."""

    sessions: list[str]  # those that have a document, in the order in which they began

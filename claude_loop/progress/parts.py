"""What the documents of the read model are made of.

Small like they are, and stored inside them: who adds a field to one of these sees to the logs that are there by a
numbered step (``eventlog/migrations.py``).
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict  # pydantic describes these, and before Python 3.12 it needs this one

StoryState = Literal["todo", "running", "failing", "blocked", "done·claimed", "done·verified"]
RunState = Literal["running", "waiting", "paused", "stalled", "vanished", "failed", "done·claimed", "done·verified"]
WaitingFor = Literal["human", "rate_limit", "other"]
SessionState = Literal["running", "waiting", "retrying", "compacting", "idle", "ended"]
# `restarted`: started again without a result; `left`: the run finished before it did.
AttemptOutcome = Literal["running", "completed", "failed", "blocked", "restarted", "left"]


class Last(TypedDict):
    """The last sign of life. ``at`` is the latest moment of any such event: silence counts from here."""

    seq: int
    at: int
    type: str


# `for` is a keyword, so this type cannot be written as a class.
Waiting = TypedDict(
    "Waiting",
    {
        "for": WaitingFor,
        "reason": str,
        "since": int,
        "until": int | None,
        "overdue": bool,  # `until` has passed and nobody said that work goes on; set by passing time only
        "story_id": str | None,
        "session_id": str | None,
        "agent_id": str | None,  # the subagent that waits, if it is one
    },
)


class PastWait(TypedDict):
    """A wait that is over; for the timeline."""

    waited_for: WaitingFor
    reason: str
    since: int
    ended_at: int
    story_id: str | None


class Paused(TypedDict):
    since: int
    reason: str | None


class Notified(TypedDict):
    """A person was told of the state the run is in."""

    kind: str
    at: int
    channel: str | None


class Owner(TypedDict):
    """The process whose end means that the run has vanished, as ``prd.started`` or ``run.started`` named it."""

    pid: int
    start_ticks: int | None
    boot_id: str | None
    pid_namespace: str | None


class StoryInWork(TypedDict):
    story_id: str
    title: str | None
    attempt: int
    since: int


class Claim(TypedDict):
    """A story that is ``done·claimed`` and what its proof lacks."""

    story_id: str
    why: list[str]


class Counts(TypedDict):
    """Stories by state; ``todo`` includes those that were announced (``total_stories``) and not seen yet."""

    todo: int
    running: int
    failing: int
    blocked: int
    claimed: int
    verified: int


class TestSummary(TypedDict):
    """One ``test.run``. Counts are null where the event did not hold a readable number."""

    seq: int
    at: int
    story_id: str | None
    attempt: int
    passed: int | None
    failed: int | None
    total: int | None
    duration_ms: int | None
    failing: list[str]  # names, at most ten
    failing_more: int  # failing tests whose names are not in `failing`


class CommitSummary(TypedDict):
    seq: int
    at: int
    story_id: str | None
    attempt: int
    hash: str
    subject: str | None
    branch: str | None


class ErrorSummary(TypedDict):
    seq: int
    at: int
    story_id: str | None
    error: str


class ProgressSummary(TypedDict):
    at: int
    current: float
    total: float
    message: str | None


class Usage(TypedDict):
    """What was reported of a run's agents, summed; null of what nobody reported."""

    cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None


class Estimate(TypedDict):
    """When the remaining stories will be done if they take as long as the middle half of the finished ones did."""

    from_at: int
    to_at: int
    stories: int  # how many remain


class AgentCall(TypedDict):
    """The tool call that a live agent is in."""

    tool: str
    summary: str | None
    since: int


class AgentLine(TypedDict):
    """What a live agent is doing right now, on its run's document."""

    session_id: str
    agent: str | None
    state: SessionState
    doing: str | None
    since: int
    last_at: int  # its last sign of life; after long silence the line goes (``passing.shown``)
    story_id: str | None
    call: AgentCall | None  # the latest that has not ended; while there is one, silence is no standstill


class Attempt(TypedDict):
    attempt: int
    started_at: int
    finished_at: int | None
    worked_ms: int | None  # without waits; null while it is running
    outcome: AttemptOutcome

"""The documents of the read model, and the patches that change them.

A flat set of JSON objects under the keys of ``keys.py``: one per project, PRD, run and story. All of them are small:
every list is bounded, every text shortened. Names ending in ``_at`` (and ``since``, ``until``) are moments in
milliseconds since the epoch, names ending in ``_ms`` are durations in milliseconds. The *moment* of an event is
``min(timestamp, received_at)``: a clock that runs ahead cannot put anything into the future.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic describes these, and before Python 3.12 it needs this one

StoryState = Literal["todo", "running", "failing", "blocked", "done·claimed", "done·verified"]
RunState = Literal["running", "waiting", "paused", "stalled", "vanished", "failed", "done·claimed", "done·verified"]
WaitingFor = Literal["human", "rate_limit", "other"]
SessionState = Literal["running", "waiting", "retrying", "compacting", "idle", "ended"]
# `restarted`: started again without a result; `left`: the run finished before it did.
AttemptOutcome = Literal["running", "completed", "failed", "blocked", "restarted", "left"]


class Patch(TypedDict):
    """One change of the read model.

    ``path`` is ``[key, field]``: the document at ``key`` has ``value`` in ``field`` from now on; or ``[key]``: the
    whole document is ``value`` (a new entity), or is gone (``value`` null). ``seq`` is the event that caused it, for a
    change that time alone made the last event before it. ``at`` is the moment.
    """

    seq: int
    at: int
    path: list[str]
    value: Any


class ProjectDocument(TypedDict):
    """Key ``project/<project>``. Kept for events without a PRD: activity that would otherwise show nowhere."""

    project: str
    last: Last


class PrdDocument(TypedDict):
    """Key ``prd/<project>/<prd_id>``."""

    project: str | None
    prd_id: str
    title: str | None
    run_id: str  # the latest run: the one its card shows
    runs: int  # how many there were
    created_at: int
    archived_at: int | None  # a person has put it away; a new run brings it back


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


class RunDocument(TypedDict):
    """Key ``run/<project>/<prd_id>/<run_id>``.

    As stored, ``state`` is never ``stalled`` and no wait is ``overdue``: those two follow from passing time
    (``passing.shown``).
    """

    project: str | None
    prd_id: str
    run_id: str
    number: int  # 1 is the PRD's first run
    opened_by: str  # type of the event that opened it
    begun_by: list[str]  # which of `prd.started` and `run.started` it has had
    superseded_by: str | None  # the run opened while this one had not finished
    state: RunState
    why: list[str]  # phrases: what `done·claimed` lacks, why `failed`; else empty
    started_at: int
    finished_at: int | None
    prd_success: bool | None  # as `prd.completed` said; null while it has not
    run_success: bool | None  # as `run.completed` said
    exit_code: int | None
    last: Last
    owner: Owner | None
    owned: bool  # the daemon has seen the owner alive: its end will mean `vanished`
    vanished_at: int | None
    waiting: Waiting | None  # the most urgent of `waits`
    waits: list[Waiting]  # at most one a session
    past_waits: list[PastWait]
    waited_ms: int
    paused: Paused | None
    iteration: int | None
    max_iterations: int | None
    total_stories: int | None  # as announced
    stories: int  # as seen
    counts: Counts
    running: list[StoryInWork]  # started and not completed since, oldest start first
    current: StoryInWork | None  # the last of `running`
    claims: list[Claim]  # the latest claimed stories, at most five
    tests: int
    last_test: TestSummary | None
    commits: int
    last_commit: CommitSummary | None
    errors: int
    last_error: ErrorSummary | None
    recent_errors: list[ErrorSummary]
    progress: ProgressSummary | None
    story_times_ms: list[int]  # `worked_ms` of the latest done stories
    estimate: Estimate | None  # null until three stories are done
    activity: list[int]  # events per bucket since `started_at`; at most 24 buckets, wider as the run grows
    activity_width_ms: int
    agents: list[AgentLine]  # the live ones, in order of their beginning
    notified: Notified | None  # null once the cause has ended
    output_bytes: int  # of what a wrapped run has printed
    usage: Usage | None  # null until any was reported


class Attempt(TypedDict):
    attempt: int
    started_at: int
    finished_at: int | None
    worked_ms: int | None  # without waits; null while it is running
    outcome: AttemptOutcome


class StoryDocument(TypedDict):
    """Key ``story/<project>/<prd_id>/<run_id>/<story_id>``."""

    project: str | None
    prd_id: str
    run_id: str
    story_id: str
    number: int  # order of first appearance in the run
    title: str | None
    priority: int | None  # as planned; the lowest comes first
    depends_on: list[str]
    after: list[str]  # those of `depends_on` that are not done; none that nobody has named
    circle: list[str]  # those of them that depend on it in turn: neither waits for the other
    needed_by: list[str]  # the stories in whose `depends_on` it stands
    done_before: bool  # the plan had it as done before this run touched it
    state: StoryState
    why: list[
        str
    ]  # phrases: what `done·claimed` lacks, why `failing` or `blocked`, what `todo` comes after; else empty
    attempt: int  # how often it was started
    attempts: list[Attempt]  # the latest ones
    completed: bool  # `story.completed` came since the last start
    success: bool | None  # what it said
    blocked: str | None  # the reason, while blocked
    first_at: int
    last_at: int
    started_at: int | None  # first start
    finished_at: int | None  # while done
    worked_ms: int  # all finished attempts together, without waits
    waited_before_ms: int  # the run's `waited_ms` at the last start
    tests: int
    test_runs: list[TestSummary]  # the latest ones
    last_test: TestSummary | None  # since the last start
    commits: int
    recent_commits: list[CommitSummary]
    last_commit: CommitSummary | None  # since the last start
    errors: int
    last_error: ErrorSummary | None
    progress: ProgressSummary | None


Group = Literal["waiting", "vanished", "failed", "stalled", "paused", "running", "today", "earlier"]


class Card(RunDocument):
    """One entry of ``GET /api/prds``: the PRD's latest run as it stands now, with the PRD's own fields.

    Cards come in the order in which they are shown; ``group`` says where one belongs (``today``: done today;
    ``earlier``: done before that, or archived).
    """

    title: str | None
    runs: int
    archived_at: int | None
    group: Group
    elapsed_ms: int
    silent_ms: int  # since the last sign of life


class RunView(RunDocument):
    """A run as it stands now."""

    elapsed_ms: int
    silent_ms: int


class PrdDetail(TypedDict):
    """``GET /api/prds/{id}``: the card, one run of it (the latest unless asked otherwise), that run's stories in
    order of appearance, and all runs, newest first. The two ``_omitted`` count what a limit left out."""

    prd: Card
    run: RunView
    stories: list[StoryDocument]
    stories_omitted: int
    runs: list[RunView]
    runs_omitted: int

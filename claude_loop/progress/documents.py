"""The documents of the read model, and the patches that change them.

A flat set of JSON objects under the keys of ``keys.py``: one per project, PRD, run and story. All of them are small:
every list is bounded, every text shortened. Names ending in ``_at`` (and ``since``, ``until``) are moments in
milliseconds since the epoch, names ending in ``_ms`` are durations in milliseconds. The *moment* of an event is
``min(timestamp, received_at)``: a clock that runs ahead cannot put anything into the future.

Below each is how it is born, every field there from the beginning, so that a patch only ever sets one. A stored
document that lacks a field, since an earlier version has stored it, is given the field as it would be born with.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic describes these, and before Python 3.12 it needs this one

from claude_loop.progress.parts import (
    AgentLine,
    Attempt,
    Claim,
    CommitSummary,
    Counts,
    ErrorSummary,
    Estimate,
    Last,
    Notified,
    Owner,
    PastWait,
    Paused,
    ProgressSummary,
    RunState,
    StoryInWork,
    StoryState,
    TestSummary,
    Usage,
    Waiting,
)

# A minute a bucket at first: a run of 24 minutes fills the sparkline, a longer one widens the buckets.
FIRST_ACTIVITY_WIDTH_MS = 60_000


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


def new_prd(project: str | None, prd_id: str, moment: int) -> PrdDocument:
    """A PRD before its first run."""
    return {
        "project": project,
        "prd_id": prd_id,
        "title": None,
        "run_id": "",
        "runs": 0,
        "created_at": moment,
        "archived_at": None,
    }


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
    left: list[str]  # stories whose last attempt was open when the run ended
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
    promise: str | None  # the last words by which an agent said that all is done; they prove nothing
    promised_at: int | None


def new_run(prd: PrdDocument, run_id: str, opened_by: str, seq: int, moment: int) -> RunDocument:
    """The next run of ``prd``."""
    return {
        "project": prd["project"],
        "prd_id": prd["prd_id"],
        "run_id": run_id,
        "number": prd["runs"] + 1,
        "opened_by": opened_by,
        "begun_by": [],
        "superseded_by": None,
        "state": "running",
        "why": [],
        "started_at": moment,
        "finished_at": None,
        "prd_success": None,
        "run_success": None,
        "exit_code": None,
        "last": {"seq": seq, "at": moment, "type": opened_by},
        "owner": None,
        "owned": False,
        "vanished_at": None,
        "waiting": None,
        "waits": [],
        "past_waits": [],
        "waited_ms": 0,
        "paused": None,
        "iteration": None,
        "max_iterations": None,
        "total_stories": None,
        "stories": 0,
        "counts": {"todo": 0, "running": 0, "failing": 0, "blocked": 0, "claimed": 0, "verified": 0},
        "running": [],
        "current": None,
        "left": [],
        "claims": [],
        "tests": 0,
        "last_test": None,
        "commits": 0,
        "last_commit": None,
        "errors": 0,
        "last_error": None,
        "recent_errors": [],
        "progress": None,
        "story_times_ms": [],
        "estimate": None,
        "activity": [0],
        "activity_width_ms": FIRST_ACTIVITY_WIDTH_MS,
        "agents": [],
        "notified": None,
        "output_bytes": 0,
        "usage": None,
        "promise": None,
        "promised_at": None,
    }


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
    # Phrases: what `done·claimed` lacks, why `failing` or `blocked`, what `todo` comes after; else empty.
    why: list[str]
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


def new_story(run: RunDocument, story_id: str, moment: int) -> StoryDocument:
    """The next story of ``run``, not started."""
    return {
        "project": run["project"],
        "prd_id": run["prd_id"],
        "run_id": run["run_id"],
        "story_id": story_id,
        "number": run["stories"] + 1,
        "title": None,
        "priority": None,
        "depends_on": [],
        "after": [],
        "circle": [],
        "needed_by": [],
        "done_before": False,
        "state": "todo",
        "why": [],
        "attempt": 0,
        "attempts": [],
        "completed": False,
        "success": None,
        "blocked": None,
        "first_at": moment,
        "last_at": moment,
        "started_at": None,
        "finished_at": None,
        "worked_ms": 0,
        "waited_before_ms": 0,
        "tests": 0,
        "test_runs": [],
        "last_test": None,
        "commits": 0,
        "recent_commits": [],
        "last_commit": None,
        "errors": 0,
        "last_error": None,
        "progress": None,
    }


Group = Literal["waiting", "vanished", "failed", "stalled", "paused", "running", "today", "earlier"]


class Card(RunDocument):
    """One entry of ``GET /api/prds``: the PRD's latest run as it stands now, with the PRD's own fields.

    Cards come in the order in which they are shown; ``group`` says where one belongs (``today``: done since
    midnight or in the last twelve hours; ``earlier``: done before that, or archived).
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

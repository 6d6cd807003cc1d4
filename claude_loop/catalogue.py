"""The catalogue of known event types: what their ``data`` holds and what is filled in for the caller.

Unknown types pass with free ``data``. Every payload takes further keys, because callers add their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from claude_loop.agent_types import AGENT_TYPES
from claude_loop.errors import InvalidEvent
from claude_loop.field_types import (
    LARGEST_COUNT,
    Amount,
    Count,
    Flag,
    Number,
    Until,
    Whole,
    hint_of,
    place_of,
    reread,
    whole,
)
from claude_loop.id_rules import COMMIT_PATTERN

Pid = Annotated[Whole, Field(ge=1, le=2**53)]
ExitCode = Annotated[Whole, Field(ge=-(2**31), lt=2**32)]
_COMMIT = re.compile(COMMIT_PATTERN)
_OPEN = ConfigDict(extra="allow")


@with_config(_OPEN)
class PrdStarted(TypedDict):
    status: Literal["running"]
    total_stories: NotRequired[Count | None]
    title: NotRequired[str | None]


@with_config(_OPEN)
class PrdCompleted(TypedDict):
    success: Flag
    status: Literal["completed", "failed"]


@with_config(_OPEN)
class RunStarted(TypedDict):
    max_iterations: NotRequired[Count | None]
    command: NotRequired[str | None]


@with_config(_OPEN)
class RunCompleted(TypedDict):
    success: Flag
    exit_code: NotRequired[ExitCode | None]


@with_config(_OPEN)
class Iteration(TypedDict):
    iteration: Count
    max_iterations: NotRequired[Count | None]


@with_config(_OPEN)
class StoryStarted(TypedDict):
    story_id: str
    status: Literal["in_progress"]
    title: NotRequired[str | None]


@with_config(_OPEN)
class StoryCompleted(TypedDict):
    story_id: str
    success: Flag
    status: Literal["completed", "failed"]


@with_config(_OPEN)
class StoryBlocked(TypedDict):
    story_id: str
    reason: NotRequired[str | None]


@with_config(_OPEN)
class FailedTest(TypedDict):
    name: str
    message: NotRequired[str | None]


@with_config(_OPEN)
class TestRun(TypedDict):
    story_id: str
    passed: Count
    failed: Count
    total: Count
    skipped: NotRequired[Count | None]
    duration_ms: NotRequired[Amount | None]
    command: NotRequired[str | None]
    failures: NotRequired[Annotated[list[FailedTest], Field(max_length=50)]]


@with_config(_OPEN)
class CommitCreated(TypedDict):
    story_id: str
    commit_hash: Annotated[str, Field(pattern=f"^{COMMIT_PATTERN}$")]
    subject: NotRequired[str | None]
    branch: NotRequired[str | None]
    files: NotRequired[Annotated[list[str], Field(max_length=100)]]
    insertions: NotRequired[Count | None]
    deletions: NotRequired[Count | None]
    amends: NotRequired[str | None]


@with_config(_OPEN)
class PlannedStory(TypedDict):
    story_id: str
    title: NotRequired[str | None]
    priority: NotRequired[Number | None]
    depends_on: NotRequired[list[str]]
    passes: NotRequired[Flag]


@with_config(_OPEN)
class PlanUpdated(TypedDict):
    title: NotRequired[str | None]
    stories: Annotated[list[PlannedStory], Field(max_length=500)]


@with_config(_OPEN)
class ErrorOccurred(TypedDict):
    story_id: NotRequired[str | None]
    error: str


@with_config(_OPEN)
class LogMessage(TypedDict):
    level: str
    message: str


@with_config(_OPEN)
class ProgressUpdated(TypedDict):
    current: Amount
    total: Amount
    message: NotRequired[str | None]


# `for` is a keyword, so this type cannot be written as a class.
AgentWaiting = TypedDict(
    "AgentWaiting",
    {
        "for": Literal["human", "rate_limit", "other"],
        "reason": str,
        "until": NotRequired[Until],
        "kind": NotRequired[str | None],
        "tool": NotRequired[str | None],
        "command": NotRequired[str | None],
    },
)
AgentWaiting.__pydantic_config__ = _OPEN  # type: ignore[attr-defined]


@with_config(_OPEN)
class AgentResumed(TypedDict):
    pass


@with_config(_OPEN)
class UsageReported(TypedDict):
    """``cumulative``: these are totals of the session so far, and stand in for those it reported before."""

    cost_usd: NotRequired[Amount | None]
    input_tokens: NotRequired[Count | None]
    output_tokens: NotRequired[Count | None]
    model: NotRequired[str | None]
    cumulative: NotRequired[Flag | None]


@with_config(_OPEN)
class SystemRunOwned(TypedDict):
    """The daemon has seen the process that owns a run alive: from now on its end means something."""

    pid: Pid


@with_config(_OPEN)
class SystemRunVanished(TypedDict):
    """The process that owned a run is gone, and the run has not finished."""

    pid: Pid


Fill = Callable[[dict[str, Any]], None]


def _agree(data: dict[str, Any], key: str, value: object) -> None:
    if data.setdefault(key, value) != value:
        raise InvalidEvent(
            f"`{key}` is {data[key]!r:.60}, but the rest of the event says {value!r}.",
            field=f"data.{key}",
            hint=f"Leave `{key}` out: it is filled in.",
        )


def _constant_status(status: str) -> Fill:
    return lambda data: _agree(data, "status", status)


def _outcome_status(data: dict[str, Any]) -> None:
    """`success` and `status` say the same thing; either gives the other."""
    success = data.get("success")
    if "success" not in data and data.get("status") in ("completed", "failed"):
        data["success"] = data["status"] == "completed"
    elif success in (True, "true"):
        _agree(data, "status", "completed")
    elif success in (False, "false"):
        _agree(data, "status", "failed")


def _test_total(data: dict[str, Any]) -> None:
    passed, failed, skipped = data.get("passed"), data.get("failed"), data.get("skipped") or 0
    if not (type(passed) is type(failed) is type(skipped) is int):
        passed, failed, skipped = whole(passed), whole(failed), whole(skipped)
    if failed == 0 and data.get("failures"):
        raise InvalidEvent(
            "`failures` names tests that failed, but `failed` is 0.",
            field="data.failures",
            hint="Leave out what did not fail; what failed, count it in `failed`.",
        )
    if not (type(passed) is type(failed) is type(skipped) is int):
        return  # the model says what is wrong
    total = passed + failed + skipped
    if "total" not in data:
        if total > LARGEST_COUNT:
            _insist_on_a_sum(passed, failed, skipped)
        data["total"] = total
    # Runners disagree on whether skipped tests count; both sums are honest.
    elif whole(data["total"]) not in (total, total - skipped):
        raise InvalidEvent(
            f"`total` is {data['total']!r:.60}, but passed, failed and skipped add up to {total}.",
            field="data.total",
            hint="Leave `total` out: it is filled in.",
        )


def _insist_on_a_sum(*counts: int) -> None:
    """Where a single count is out of range, the model says so."""
    if all(0 <= count <= LARGEST_COUNT for count in counts):
        raise InvalidEvent(
            f"`passed`, `failed` and `skipped` add up to {sum(counts)}; counts go up to {LARGEST_COUNT}.",
            field="data",
            hint="These cannot be counts of tests.",
        )


def _commit_hash(data: dict[str, Any]) -> None:
    """The model checks the same; here the next step is said."""
    value = data.get("commit_hash")
    if value.__class__ is str and _COMMIT.fullmatch(value) is None:
        raise InvalidEvent(
            "`commit_hash` is not 4 to 64 hexadecimal digits.",
            field="data.commit_hash",
            hint="`git rev-parse HEAD` prints it.",
        )


def _used(data: dict[str, Any]) -> None:
    if all(data.get(key) is None for key in ("cost_usd", "input_tokens", "output_tokens")):
        raise InvalidEvent(
            "Neither `cost_usd` nor `input_tokens` nor `output_tokens` is there.",
            field="data.cost_usd",
            hint="Say what was used, such as `cost_usd` 0.42.",
        )


def _nothing(data: dict[str, Any]) -> None:
    del data


@dataclass(frozen=True, slots=True)
class PayloadType:
    """A known type: the validator of its ``data``, what completes it, and whether it needs a story."""

    adapter: TypeAdapter[Any]
    fill: Fill
    story: Literal["required", "allowed", "none"]

    def complete(self, data: dict[str, Any], story_id: str | None) -> tuple[dict[str, Any], str | None]:
        """Validated ``data`` with defaults filled in, and the story id it belongs to.

        Raises ``InvalidEvent`` naming the first offending field.
        """
        data = dict(data)
        if self.story != "none":
            story_id = self._story(data, story_id)
        self.fill(data)
        validate = self.adapter.validator.validate_python
        try:
            return validate(data), story_id
        except ValidationError as failure:
            told = reread(data, failure)
            if told is None:
                raise _refusal(data, failure) from None
        try:
            return validate(told), story_id
        except ValidationError as failure:
            raise _refusal(told, failure) from None

    def _story(self, data: dict[str, Any], story_id: str | None) -> str | None:
        inner = data.get("story_id")
        if inner is None:
            if story_id is not None:
                data["story_id"] = story_id
            return story_id
        if story_id is not None and inner != story_id:
            _agree(data, "story_id", story_id)
        return inner if isinstance(inner, str) else story_id


def _refusal(data: dict[str, Any], failure: ValidationError) -> InvalidEvent:
    first = failure.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(["data", *map(str, place_of(data, first["loc"]))])
    return InvalidEvent(f"`{field}`: {first['msg']}.", field=field, hint=hint_of(first["type"]))


def _known(model: Any, fill: Fill = _nothing, *, story: Literal["required", "allowed", "none"] = "none") -> PayloadType:
    return PayloadType(TypeAdapter(model), fill, story)


CATALOGUE: dict[str, PayloadType] = {
    "prd.started": _known(PrdStarted, _constant_status("running")),
    "prd.completed": _known(PrdCompleted, _outcome_status),
    "run.started": _known(RunStarted),
    "run.completed": _known(RunCompleted),
    "iteration.started": _known(Iteration),
    "iteration.completed": _known(Iteration),
    "story.started": _known(StoryStarted, _constant_status("in_progress"), story="required"),
    "story.completed": _known(StoryCompleted, _outcome_status, story="required"),
    "story.blocked": _known(StoryBlocked, story="required"),
    "test.run": _known(TestRun, _test_total, story="required"),
    "commit.created": _known(CommitCreated, _commit_hash, story="required"),
    "plan.updated": _known(PlanUpdated),
    "error.occurred": _known(ErrorOccurred, story="allowed"),
    "log.message": _known(LogMessage, story="allowed"),
    "progress.updated": _known(ProgressUpdated, story="allowed"),
    "agent.waiting": _known(AgentWaiting),
    "agent.resumed": _known(AgentResumed),
    "usage.reported": _known(UsageReported, _used, story="allowed"),
    "system.run_owned": _known(SystemRunOwned),
    "system.run_vanished": _known(SystemRunVanished),
    **{type_: _known(model) for type_, model in AGENT_TYPES.items()},
}

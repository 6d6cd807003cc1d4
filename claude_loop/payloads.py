"""What the events of the Python emitter hold. The log checks and completes it; nothing here refuses anything.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

# Deeper than any event may be: what contains itself ends somewhere.
MAX_DEPTH = 40
# The known types, and what each needs that nobody fills in. The catalogue says the same, and takes far longer to load.
REQUIRED: dict[str, tuple[str, ...]] = {
    "prd.started": (),
    "prd.completed": ("success",),
    "run.started": (),
    "run.completed": ("success",),
    "iteration.started": ("iteration",),
    "iteration.completed": ("iteration",),
    "story.started": ("story_id",),
    "story.completed": ("story_id", "success"),
    "story.blocked": ("story_id",),
    "test.run": ("story_id", "passed", "failed"),
    "commit.created": ("story_id", "commit_hash"),
    "error.occurred": ("error",),
    "log.message": ("level", "message"),
    "progress.updated": ("current", "total"),
    "agent.waiting": ("for", "reason"),
    "agent.resumed": (),
    "usage.reported": (),
    "system.run_owned": ("pid",),
    "system.run_vanished": ("pid",),
    "agent.message": ("message",),
    "agent.retrying": ("error",),
    "agent.idle": (),
    "agent.hook": (),
    "session.started": ("agent",),
    "session.ended": (),
    "session.compacting": (),
    "session.compacted": (),
    "prompt.submitted": (),
    "tool.started": ("tool",),
    "tool.completed": ("tool",),
    "tool.failed": ("tool",),
    "subagent.started": ("agent_id",),
    "subagent.ended": ("agent_id",),
    "task.created": (),
    "task.completed": (),
    "plan.updated": ("stories",),
}
# What the daemon alone says, when a person asks for it.
RESERVED = frozenset({"prd.archived", "prd.unarchived", "prd.forgotten"})
# Of what is needed: what must be numbers, as such or as text.
NUMBERS = frozenset({"passed", "failed", "iteration", "current", "total", "pid"})
_NUMBER_TEXT = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?")
# So alike are `test.rnu` and `test.run`, while `stage.started` is a type of somebody's own beside `story.started`.
_ALIKE = 0.85


def story_started(story_id: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"story_id": story_id, "status": "in_progress", **extra}


def story_completed(story_id: str, success: bool, extra: Mapping[str, Any]) -> dict[str, Any]:  # noqa: FBT001 - as given
    return {"story_id": story_id, **_outcome(success), **extra}


def test_run(story_id: str, passed: int, failed: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    data = {"story_id": story_id, "passed": passed, "failed": failed, **extra}
    counts = [passed, failed, extra.get("skipped") or 0]
    if all(type(count) is int for count in counts):  # else the log says what is wrong
        data.setdefault("total", sum(counts))
    return data


def commit_created(story_id: str, commit_hash: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"story_id": story_id, "commit_hash": commit_hash, **extra}


def error_occurred(story_id: str | None, error: object, extra: Mapping[str, Any]) -> dict[str, Any]:
    """``error`` is a sentence, or an exception."""
    return {"story_id": story_id, "error": str(error), **extra}


def prd_started(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": "running", **extra}


def prd_completed(success: bool, extra: Mapping[str, Any]) -> dict[str, Any]:  # noqa: FBT001 - as given
    return {**_outcome(success), **extra}


def _outcome(success: bool) -> dict[str, Any]:  # noqa: FBT001 - as given
    return {"success": success, "status": "completed" if success else "failed"}


def missing(type_: str, data: Mapping[str, Any], story_id: str | None) -> list[str]:
    """The fields that an event of this type lacks."""
    given = {key for key, value in data.items() if value is not None}
    if story_id:
        given.add("story_id")
    if type_ in ("prd.completed", "story.completed") and "status" in given:
        given.add("success")
    return [field for field in REQUIRED.get(type_, ()) if field not in given]


def misread(type_: str, data: Mapping[str, Any]) -> list[str]:
    """The fields that an event of this type needs and has, but with a value that is surely none of theirs."""
    given = {field: data[field] for field in REQUIRED.get(type_, ()) if data.get(field) is not None}
    return [field for field, value in given.items() if _is_odd(field, value)]


def _is_odd(field: str, value: Any) -> bool:
    if field in NUMBERS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        return not (is_number or (isinstance(value, str) and _NUMBER_TEXT.fullmatch(value)))
    if field == "for":
        return value not in ("human", "rate_limit", "other")
    return field == "success" and value not in (True, False, "true", "false")


def nearest(type_: str) -> str:
    """The known type that was perhaps meant; empty for a known one, and for one that is like none."""
    if type_ in REQUIRED:
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - hardly ever

    return "".join(get_close_matches(type_, REQUIRED, n=1, cutoff=_ALIKE))


def mapping(data: Any) -> dict[str, Any]:
    """``data`` as an event's data, whatever it is."""
    return dict(data) if isinstance(data, Mapping) else {"value": data}


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON can hold it; what it cannot is written out."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    many = isinstance(value, list | tuple | set | frozenset)
    if depth >= MAX_DEPTH and (many or isinstance(value, Mapping)):
        return f"<{type(value).__name__}>"
    if many:
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    return str(value)

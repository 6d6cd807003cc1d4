"""What Socket.IO clients ask for, parsed: payloads become values, or errors that name the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from claude_loop.errors import InvalidRequest
from claude_loop.filters import Filter
from claude_loop.hub import BATCH_EVENTS
from claude_loop.id_rules import MAX_ID_LENGTH
from claude_loop.progress.watch import WatchedPrd
from claude_loop.subscription import Start
from claude_loop.transports.prd_interest import PrdKey

MAX_HISTORY = 1000
_HINT = "docs/socketio.md has the form of each request."


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``subscribe {filter, from, max_batch?}``."""

    filter: Filter
    start: Start
    max_batch: int


@dataclass(frozen=True, slots=True)
class SubscribePrd:
    """``subscribe_prd {prd_id, project?, history?}``."""

    key: PrdKey
    history: int


def subscribe(payload: Any) -> Subscribe:
    """Raises ``InvalidRequest``, ``InvalidFilter`` or ``InvalidCursor``."""
    fields = _fields(payload, "subscribe", {"filter", "from", "max_batch"})
    max_batch = _count(fields, "max_batch", 1, None)
    return Subscribe(
        Filter.parse(fields.get("filter")),
        Start.parse(fields.get("from")),
        BATCH_EVENTS if max_batch is None else min(max_batch, BATCH_EVENTS),
    )


def subscribe_prd(payload: Any) -> SubscribePrd:
    """Raises ``InvalidRequest``."""
    fields = _fields(payload, "subscribe_prd", {"prd_id", "project", "history"})
    prd_id = _name(fields, "prd_id")
    if prd_id is None:
        raise InvalidRequest("`prd_id` is missing.", field="prd_id", hint='Name a PRD, or "*" for all.')
    return SubscribePrd(PrdKey(_name(fields, "project"), prd_id), _count(fields, "history", 0, MAX_HISTORY) or 0)


def watch(payload: Any) -> WatchedPrd | None:
    """``watch {prd?: {prd_id, project, run_id?}}``; None for no PRD in particular. Raises ``InvalidRequest``."""
    prd = _fields(payload, "watch", {"prd"}).get("prd")
    if prd is None:
        return None
    if not isinstance(prd, dict):
        raise InvalidRequest("`prd` is an object.", field="prd", hint=_HINT)
    fields = _fields(prd, "prd", {"prd_id", "project", "run_id"})
    prd_id = _name(fields, "prd_id")
    if prd_id is None:
        raise InvalidRequest("`prd.prd_id` is missing.", field="prd.prd_id", hint=_HINT)
    project = None if fields.get("project") == "" else _name(fields, "project")  # as over HTTP
    return WatchedPrd(project, prd_id, _name(fields, "run_id"))


def control_prd(payload: Any) -> dict[str, Any]:
    """``action`` and ``prd_id`` of a command, which may have fields of its own. Raises ``InvalidRequest``."""
    if not isinstance(payload, dict):
        raise InvalidRequest("`control_prd` takes an object.", hint=_HINT)
    action, prd_id = _name(payload, "action"), _name(payload, "prd_id")
    if action is None or prd_id is None:
        missing = "action" if action is None else "prd_id"
        raise InvalidRequest(f"`{missing}` is missing.", field=missing, hint=_HINT)
    return {"action": action, "prd_id": prd_id}


def shown(text: str) -> str:
    """Foreign text, short and printable."""
    return text[:60].encode("unicode_escape").decode()


def _fields(payload: Any, name: str, known: set[str]) -> dict[str, Any]:
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise InvalidRequest(f"`{name}` takes an object.", hint=_HINT)
    for key in payload:
        if key not in known:
            raise InvalidRequest(
                f"`{shown(key)}` is not a field of `{name}`.",
                field=shown(key),
                hint=f"Fields are {', '.join(sorted(known))}.",
            )
    return payload


def _name(fields: dict[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is None:
        return None
    # By its class: a number too large for the quick parser is a text of another.
    if value.__class__ is not str or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise InvalidRequest(f"`{key}` is a string of 1 to {MAX_ID_LENGTH} characters.", field=key, hint=_HINT)
    return str(value)


def _count(fields: dict[str, Any], key: str, least: int, most: int | None) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"from {least} to {most}" if most is not None else f"from {least} up"
        raise InvalidRequest(f"`{key}` is a whole number {bounds}.", field=key, hint=_HINT)
    return value

"""A line `hook.<agent>` of the spool as drafts of events: what the agent did, and the facts found in it."""

from __future__ import annotations

from typing import Any

from claude_loop.clock import rfc3339
from claude_loop.formats import claude_hooks, codex_hooks, cut_payload, tool_facts
from claude_loop.formats.hook_events import Reader
from claude_loop.formats.hook_fields import Draft, Payload, one_line, text
from claude_loop.formats.reset_times import find_reset

PREFIX = "hook."
UNKNOWN = "agent.hook"
READERS: dict[str, dict[str, Reader]] = {"claude": claude_hooks.HOOKS, "codex": codex_hooks.HOOKS}
_ENDED = frozenset({"tool.completed", "tool.failed"})


def is_hook(type_: object) -> bool:
    """Whether a line of this type is an agent's hook."""
    return isinstance(type_, str) and type_.startswith(PREFIX)


def session_of(payload: Payload) -> str | None:
    """The agent's session."""
    return text(payload, "session_id", "thread-id", "thread_id")


def drafts(type_: str, payload: dict[str, Any], at_ms: int) -> list[Draft]:
    """At least one: the first is what the hook says, with the payload as `raw`; the others have a ``part``.

    ``at_ms``: when the hook was called; what it says of a limit's end, such as "resets 3am", counts from there.
    """
    hooks = READERS.get(type_.removeprefix(PREFIX), {})
    name = text(payload, "hook_event_name", "type")
    reader = hooks.get(name) if name else None
    events = reader(payload) if reader is not None else []
    main, *parts = events or [Draft(UNKNOWN, {})]
    if main.type in _ENDED and not main.data.get("denied"):
        call_id = main.data.get("call_id")
        mark = {} if call_id is None else {"call_id": call_id}
        parts += [fact._replace(data={**fact.data, **mark}) for fact in tool_facts.found(payload)]
    if main.data.get("for") == "rate_limit" and (until := find_reset(main.data["reason"], at_ms)) is not None:
        main = main._replace(data={**main.data, "until": rfc3339(until)})
    hook = {} if name is None else {"hook": one_line(name)}
    first = main._replace(data={**main.data, **hook, "raw": payload})
    return [first, *(part._replace(data={**part.data, **hook}) for part in parts)]


def restored(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, put together again as far as that is possible if the hook had to cut it."""
    return cut_payload.recover(payload) if cut_payload.is_cut(payload) else payload

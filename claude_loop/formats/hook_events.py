"""What hooks of several agents have in common: payload in, drafts of our own events out.

Claude Code and Codex name most hooks and fields alike. What only one of them has is in its own module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_loop.formats.hook_fields import (
    Draft,
    Payload,
    command,
    long_text,
    mapping,
    number,
    one_line,
    present,
    rows,
    summary,
    text,
    tool_name,
)

Reader = Callable[[Payload], list[Draft]]

# Tools that are themselves a question to the person: what is waited for is an answer, not a permission.
_QUESTIONS = frozenset({"AskUserQuestion", "ExitPlanMode"})


def session_started(agent: str) -> Reader:
    def read(payload: Payload) -> list[Draft]:
        given = {"model": _model(payload), "cwd": text(payload, "cwd"), "reason": text(payload, "source")}
        return [Draft("session.started", present(agent=agent, **given, title=text(payload, "session_title")))]

    return read


def _model(payload: Payload) -> str | None:
    return text(payload, "model") or text(mapping(payload, "model"), "id", "display_name")


def session_ended(payload: Payload) -> list[Draft]:
    return [Draft("session.ended", present(reason=text(payload, "reason")))]


def prompt_submitted(payload: Payload) -> list[Draft]:
    return [Draft("prompt.submitted", present(prompt=long_text(payload, "prompt"), origin=text(payload, "source")))]


def call(payload: Payload) -> dict[str, Any]:
    """What every event of a tool's call has."""
    return present(
        tool=tool_name(payload),
        call_id=text(payload, "tool_use_id"),
        summary=summary(payload) or None,
        agent_id=text(payload, "agent_id"),
    )


def tool_started(payload: Payload) -> list[Draft]:
    return [Draft("tool.started", call(payload))]


def tool_completed(payload: Payload) -> list[Draft]:
    return [Draft("tool.completed", call(payload) | present(duration_ms=number(payload, "duration_ms")))]


def tool_failed(payload: Payload) -> list[Draft]:
    interrupted = True if payload.get("is_interrupt") is True else None
    error = long_text(payload, "error") or "It failed without saying why."
    more = present(duration_ms=number(payload, "duration_ms"), error=error, interrupted=interrupted)
    return [Draft("tool.failed", call(payload) | more)]


def tool_denied(payload: Payload) -> list[Draft]:
    """The end of a call that was never made."""
    reason = long_text(payload, "reason")
    error = f"Permission denied: {reason}" if reason else "Permission denied."
    return [Draft("tool.failed", call(payload) | {"error": error, "denied": True})]


def permission_requested(payload: Payload) -> list[Draft]:
    tool, about = tool_name(payload), summary(payload)
    asks = tool in _QUESTIONS
    data = present(
        reason=one_line(f"question {about}" if asks else f"permission {tool} {about}"),
        kind="input" if asks else "permission",
        tool=tool,
        command=command(mapping(payload, "tool_input")),
        agent_id=text(payload, "agent_id"),
    )
    return [Draft("agent.waiting", {"for": "human", **data})]


def waiting_for_input(reason: str) -> list[Draft]:
    return [Draft("agent.waiting", {"for": "human", "reason": one_line(reason), "kind": "input"})]


def turn_ended(payload: Payload) -> list[Draft]:
    """The last words of a turn, if they are told; then the agent is idle."""
    message = long_text(payload, "last_assistant_message", "last-assistant-message")
    idle = present(background=len(rows(payload, "background_tasks")) or None)
    if message is None:
        return [Draft("agent.idle", idle)]
    return [Draft("agent.message", {"message": message, "final": True}), Draft("agent.idle", idle, "idle")]


def idle(payload: Payload) -> list[Draft]:
    del payload
    return [Draft("agent.idle", {})]


def subagent_started(payload: Payload) -> list[Draft]:
    return [Draft("subagent.started", _subagent(payload))]


def subagent_ended(payload: Payload) -> list[Draft]:
    message = long_text(payload, "last_assistant_message")
    return [Draft("subagent.ended", _subagent(payload) | present(message=message))]


def _subagent(payload: Payload) -> dict[str, Any]:
    return present(
        agent_id=text(payload, "agent_id") or "unknown",
        agent_type=text(payload, "agent_type"),
        description=text(payload, "description"),
    )


def compacting(payload: Payload) -> list[Draft]:
    return [Draft("session.compacting", present(trigger=text(payload, "trigger")))]


def compacted(payload: Payload) -> list[Draft]:
    given = present(trigger=text(payload, "trigger"), summary=long_text(payload, "compact_summary"))
    return [Draft("session.compacted", given)]

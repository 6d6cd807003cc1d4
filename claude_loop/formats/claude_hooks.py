"""Claude Code's hooks as events of ours. docs/agents.md has the table; what is not in it becomes `agent.hook`."""

from __future__ import annotations

import re

from claude_loop.formats import hook_events as common
from claude_loop.formats.hook_events import Reader
from claude_loop.formats.hook_fields import Draft, Payload, long_text, one_line, present, text

_ATTEMPT = re.compile(r"attempt (\d{1,4})(?: ?(?:of|/) ?(\d{1,4}))?", re.IGNORECASE)
_RETRIES = re.compile(r"retrying|will retry", re.IGNORECASE)
# Errors that last until a person does something.
_FOR_HUMANS = frozenset({"authentication_failed", "billing_error"})


def _notification(payload: Payload) -> list[Draft]:
    kind, message = text(payload, "notification_type") or "", text(payload, "message")
    if kind == "idle_prompt":
        return common.idle(payload)
    if kind == "permission_prompt":
        reason = one_line(message or "permission")
        return [Draft("agent.waiting", {"for": "human", "reason": reason, "kind": "permission"})]
    if kind in ("agent_needs_input", "elicitation_dialog"):
        return common.waiting_for_input(message or "input")
    return []


def _elicitation(payload: Payload) -> list[Draft]:
    server, message = text(payload, "mcp_server_name") or "a server", text(payload, "message")
    return common.waiting_for_input(f"{server} asks: {message}" if message else f"{server} asks")


def _elicited(payload: Payload) -> list[Draft]:
    del payload
    return [Draft("agent.resumed", {})]


def _turn_failed(payload: Payload) -> list[Draft]:
    """A turn that ended by an error of the API. Whether somebody tries again is not said, unless the details do."""
    error, details = text(payload, "error") or "unknown error", long_text(payload, "error_details") or ""
    said = f"{error}: {details}" if details else error
    if error == "rate_limit":
        reason = one_line(details or "rate limit")
        return [Draft("agent.waiting", {"for": "rate_limit", "reason": reason, "kind": "rate_limit"})]
    if error in _FOR_HUMANS:
        return [Draft("agent.waiting", {"for": "human", "reason": one_line(said.replace("_", " ")), "kind": "other"})]
    attempt = _ATTEMPT.search(details)
    if attempt or _RETRIES.search(details):
        tries = {"attempt": int(attempt[1])} if attempt else {}
        if attempt and attempt[2]:
            tries["max_attempts"] = int(attempt[2])
        return [Draft("agent.retrying", {"error": said, **tries})]
    return [Draft("error.occurred", {"error": said}), Draft("agent.idle", {}, "idle")]


def _task(type_: str) -> Reader:
    def read(payload: Payload) -> list[Draft]:
        subject = text(payload, "task_subject")
        return [
            Draft(type_, present(task_id=_id(payload.get("task_id")), subject=one_line(subject) if subject else None))
        ]

    return read


def _id(value: object) -> str | None:
    return one_line(str(value)) if isinstance(value, str | int) and str(value).strip() else None


def _displayed(payload: Payload) -> list[Draft]:
    message = long_text(payload, "delta")
    return [Draft("agent.message", {"message": message, "final": payload.get("final") is True})] if message else []


HOOKS: dict[str, Reader] = {
    "SessionStart": common.session_started("claude"),
    "SessionEnd": common.session_ended,
    "UserPromptSubmit": common.prompt_submitted,
    "PreToolUse": common.tool_started,
    "PermissionRequest": common.permission_requested,
    "PermissionDenied": common.tool_denied,
    "PostToolUse": common.tool_completed,
    "PostToolUseFailure": common.tool_failed,
    "Notification": _notification,
    "Elicitation": _elicitation,
    "ElicitationResult": _elicited,
    "SubagentStart": common.subagent_started,
    "SubagentStop": common.subagent_ended,
    "Stop": common.turn_ended,
    "StopFailure": _turn_failed,
    "TaskCreated": _task("task.created"),
    "TaskCompleted": _task("task.completed"),
    "PreCompact": common.compacting,
    "PostCompact": common.compacted,
    "MessageDisplay": _displayed,
}

"""Codex's hooks, and its `notify`, as events of ours. docs/agents.md has the table."""

from __future__ import annotations

from claude_loop.formats import hook_events as common
from claude_loop.formats.hook_events import Reader
from claude_loop.formats.hook_fields import Draft, Payload, mapping, number, present

_NOTIFY_TURN = "agent-turn-complete"


def _tool_ended(payload: Payload) -> list[Draft]:
    """Codex tells of a command that failed by the same hook; some tools say so in their answer."""
    response = mapping(payload, "tool_response")
    exit_code = response.get("exit_code", mapping(response, "metadata").get("exit_code"))
    if isinstance(exit_code, int) and exit_code != 0:
        more = present(duration_ms=number(payload, "duration_ms"))
        return [Draft("tool.failed", common.call(payload) | {"error": f"Exit code {exit_code}"} | more)]
    return common.tool_completed(payload)


def _interrupted(payload: Payload) -> list[Draft]:
    del payload
    return [Draft("agent.idle", {"interrupted": True})]


HOOKS: dict[str, Reader] = {
    "SessionStart": common.session_started("codex"),
    "SessionEnd": common.session_ended,
    "UserPromptSubmit": common.prompt_submitted,
    "PreToolUse": common.tool_started,
    "PermissionRequest": common.permission_requested,
    "PostToolUse": _tool_ended,
    "PreCompact": common.compacting,
    "PostCompact": common.compacted,
    "SubagentStart": common.subagent_started,
    "SubagentStop": common.subagent_ended,
    "Stop": common.turn_ended,
    "Interrupt": _interrupted,
    _NOTIFY_TURN: common.turn_ended,
}

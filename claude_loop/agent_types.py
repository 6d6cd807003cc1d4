"""What agents tell of themselves: the payloads of sessions, prompts, tools, subagents and tasks.

Lenient, since agents change faster than we do: few fields must be there, and any others may be.
"""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from claude_loop.field_types import Amount, Count, Flag, Until

_OPEN = ConfigDict(extra="allow")


@with_config(_OPEN)
class SessionStarted(TypedDict):
    agent: str
    model: NotRequired[str | None]
    cwd: NotRequired[str | None]
    reason: NotRequired[str | None]
    title: NotRequired[str | None]


@with_config(_OPEN)
class SessionEnded(TypedDict):
    reason: NotRequired[str | None]


@with_config(_OPEN)
class PromptSubmitted(TypedDict):
    prompt: NotRequired[str | None]
    origin: NotRequired[str | None]


@with_config(_OPEN)
class AgentMessage(TypedDict):
    message: str
    final: NotRequired[Flag | None]


@with_config(_OPEN)
class ToolStarted(TypedDict):
    tool: str
    call_id: NotRequired[str | None]
    summary: NotRequired[str | None]
    agent_id: NotRequired[str | None]


@with_config(_OPEN)
class ToolCompleted(ToolStarted):
    duration_ms: NotRequired[Amount | None]


@with_config(_OPEN)
class ToolFailed(ToolCompleted):
    error: NotRequired[str | None]
    interrupted: NotRequired[Flag | None]


@with_config(_OPEN)
class AgentIdle(TypedDict):
    pass


@with_config(_OPEN)
class AgentRetrying(TypedDict):
    error: str
    attempt: NotRequired[Count | None]
    max_attempts: NotRequired[Count | None]
    until: NotRequired[Until]


@with_config(_OPEN)
class SessionCompacting(TypedDict):
    trigger: NotRequired[str | None]


@with_config(_OPEN)
class SessionCompacted(TypedDict):
    trigger: NotRequired[str | None]
    summary: NotRequired[str | None]


@with_config(_OPEN)
class Subagent(TypedDict):
    agent_id: str
    agent_type: NotRequired[str | None]
    description: NotRequired[str | None]
    message: NotRequired[str | None]


@with_config(_OPEN)
class Task(TypedDict):
    task_id: NotRequired[str | None]
    subject: NotRequired[str | None]


@with_config(_OPEN)
class AgentHook(TypedDict):
    hook: NotRequired[str | None]
    raw: NotRequired[dict[str, Any] | None]


AGENT_TYPES: dict[str, Any] = {
    "agent.message": AgentMessage,
    "agent.idle": AgentIdle,
    "agent.retrying": AgentRetrying,
    "agent.hook": AgentHook,
    "session.started": SessionStarted,
    "session.ended": SessionEnded,
    "session.compacting": SessionCompacting,
    "session.compacted": SessionCompacted,
    "prompt.submitted": PromptSubmitted,
    "tool.started": ToolStarted,
    "tool.completed": ToolCompleted,
    "tool.failed": ToolFailed,
    "subagent.started": Subagent,
    "subagent.ended": Subagent,
    "task.created": Task,
    "task.completed": Task,
}

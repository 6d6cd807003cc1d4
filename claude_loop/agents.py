"""The coding agents whose hooks we know: what they are called, where their settings are, which hooks we ask for.

What a hook says is read in ``formats/``. Everything else that tells agents apart, commands and checks, goes by this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AgentName = Literal["claude", "codex"]


@dataclass(frozen=True, slots=True)
class Agent:
    """``folder`` is below the home directory, and below a repository; ``variable`` names another than the former.

    ``brief`` are hooks that the agent waits for less long; ``off`` is how a person switches all hooks off.
    """

    title: str
    folder: str
    variable: str
    file: str
    off: str
    hooks: tuple[str, ...]
    brief: tuple[str, ...] = ()

    def settings(self, environ: Mapping[str, str]) -> Path:
        """A person's own settings."""
        home = Path(environ.get("HOME") or Path.home())
        return Path(environ.get(self.variable) or home / self.folder) / self.file


AGENTS: dict[AgentName, Agent] = {
    "claude": Agent(
        "Claude Code",
        ".claude",
        "CLAUDE_CONFIG_DIR",
        "settings.json",
        "disableAllHooks",
        (
            "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PermissionDenied", "PostToolUse",
            "PostToolUseFailure", "Notification", "Elicitation", "ElicitationResult", "SubagentStart", "SubagentStop",
            "TaskCreated", "TaskCompleted", "PreCompact", "PostCompact", "Stop", "StopFailure", "SessionEnd",
        ),
    ),
    "codex": Agent(
        "Codex",
        ".codex",
        "CODEX_HOME",
        "hooks.json",
        "hooks = false in config.toml",
        (
            "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "PreCompact",
            "PostCompact", "SubagentStart", "SubagentStop", "Stop", "Interrupt", "SessionEnd",
        ),
        brief=("SessionEnd", "Interrupt"),
    ),
}  # fmt: skip

"""How our hooks stand in an agent's settings: which are there, whether they can run, whether the agent lets them."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_loop import hook_entries, hook_settings
from claude_loop.agents import AgentName
from claude_loop.hook_settings import EVENTS
from claude_loop.settings_files import SettingsFile


@dataclass(frozen=True, slots=True)
class HookStatus:
    """``programs`` are the hook files that the entries name; ``missing`` those of them that cannot be run."""

    have: int
    wanted: int
    programs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    switched_off: bool = False

    @property
    def is_complete(self) -> bool:
        return self.have == self.wanted


def look(file: SettingsFile, agent: AgentName) -> HookStatus:
    """Raises ``SettingsFileRefused`` when the file cannot be read or understood."""
    found = hook_settings.installed(file)
    wanted = EVENTS[agent]
    programs = sorted({shlex.split(line)[-2] for line in found.values()})
    missing = tuple(path for path in programs if not os.access(path, os.X_OK))
    have = sum(event in found for event in wanted)
    return HookStatus(have, len(wanted), tuple(programs), missing, switched_off=_is_off(file, agent))


def _is_off(file: SettingsFile, agent: AgentName) -> bool:
    """Whether a person has switched all hooks off, as far as we know how that is done."""
    if agent == "claude":
        return hook_settings.hooks_disabled(file)
    return agent == "codex" and not codex_hooks_on(file.path)


def codex_hooks_on(hooks_json: Path) -> bool:
    """Whether the `config.toml` beside it leaves hooks on, as they are by default."""
    features = _codex_config(hooks_json).get("features", {})
    return not isinstance(features, dict) or features.get("hooks") is not False


def codex_unreviewed(file: SettingsFile) -> int:
    """How many of our hooks Codex has no review of in its `config.toml`, and skips without a word.

    A review that is there may be of an earlier form of the hook: only Codex can tell.
    """
    content = file.read()
    hooks = json.loads(content or b"{}").get("hooks", {})
    table = _codex_config(file.path).get("hooks", {})
    state = table.get("state", {}) if isinstance(table, dict) else {}
    reviewed = {key for key, entry in state.items() if isinstance(entry, dict) and entry.get("trusted_hash")}
    names = {str(file.path), str(file.target)}
    return sum(
        not any(f"{name}:{place}" in reviewed for name in names)
        for event, groups in hooks.items()
        for place in _places(event, groups)
    )


def _places(event: str, groups: list[Any]) -> Iterator[str]:
    """What Codex calls our handlers of an event: ``pre_tool_use:0:0``."""
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", event).lower()
    for number, group in enumerate(groups):
        for index, handler in enumerate(group.get("hooks", [])):
            if hook_entries.is_our_handler(handler):
                yield f"{snake}:{number}:{index}"


def _codex_config(hooks_json: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(hooks_json.with_name("config.toml").read_text())
    except (OSError, ValueError):  # none, or Codex will say itself what is wrong with it
        return {}

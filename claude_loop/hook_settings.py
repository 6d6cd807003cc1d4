"""Our entries in the settings of coding agents: which hooks, where, and how they get in and out again.

Only hooks that observe. Never `WorktreeCreate`, which would take git's place. All of them are waited for by the agent:
a call takes three milliseconds, while calls beside each other could be stored in the wrong order, and those that still
run when the agent ends are killed.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from claude_loop.agents import AGENTS, AgentName
from claude_loop.errors import SettingsFileRefused
from claude_loop.formats import json_edit
from claude_loop.hook_entries import checked, decoded, entries, first_command, without_ours
from claude_loop.settings_files import Kept, SettingsFile, digest

Scope = Literal["user", "project"]

# A permission is told by PermissionRequest, with the command, which a notification lacks.
_NOTIFICATIONS = "idle_prompt|agent_needs_input"
# Seconds after which an agent goes on without the hook.
_TIMEOUT = 5
_BRIEF_TIMEOUT = 3
EVENTS: dict[AgentName, tuple[str, ...]] = {name: agent.hooks for name, agent in AGENTS.items()}


@dataclass(frozen=True, slots=True)
class Change:
    """What a file has and what it would have; None: no file. The same: nothing to do."""

    before: bytes | None
    after: bytes | None


def location(agent: AgentName, scope: Scope, root: Path, environ: Mapping[str, str]) -> Path:
    """Where the agent looks for hooks; ``root`` is the project's."""
    known = AGENTS[agent]
    return root / known.folder / known.file if scope == "project" else known.settings(environ)


def command(hook: Path, agent: AgentName) -> str:
    """The command line that an agent's shell runs, wherever it is."""
    if not os.access(hook, os.X_OK):
        raise SettingsFileRefused(f"{hook} is not there, or cannot be run.", hint="Install claude-loop again.")
    words = [str(hook.absolute()), agent]
    if not os.access("/bin/bash", os.X_OK):  # which the script names as its interpreter
        bash = shutil.which("bash")
        if bash is None:
            raise SettingsFileRefused("The hook needs bash, and there is none.", hint="Install bash.")
        words = [bash, "-p", *words]
    return shlex.join(words)


def install(file: SettingsFile, agent: AgentName, line: str) -> Change:
    """What installing would make of the file. Raises ``SettingsFileRefused``."""
    before = file.read()
    text = decoded(file, before) if before and before.strip() else "{}\n"
    wanted = {event: _entry(agent, event, line) for event in EVENTS[agent]}
    ours = entries(checked(file, text))
    if {event: groups for event, groups in ours.items() if groups} == {
        event: [group] for event, group in wanted.items()
    }:
        return Change(before, before)
    text = without_ours(file, text)
    for event, entry in wanted.items():
        text = json_edit.add_item(text, ("hooks", event), entry)
    return Change(before, text.encode())


def uninstall(file: SettingsFile) -> Change:
    """What taking our entries out would make of it. Raises ``SettingsFileRefused``."""
    before = file.read()
    if before is None or not before.strip():
        return Change(before, before)
    text = decoded(file, before)
    kept = file.kept()
    if not any(entries(checked(file, text)).values()):
        return Change(before, before)
    if kept is not None and kept.after_digest == digest(before):
        return Change(before, kept.before)
    return Change(before, without_ours(file, text).encode())


def apply_install(file: SettingsFile, change: Change) -> None:
    """Write it, and remember what was there."""
    assert change.after is not None  # noqa: S101 - installing never removes a file
    kept, before = file.kept(), change.before
    if kept is not None and before is not None and kept.after_digest == digest(before):
        before = kept.before  # of ours nothing was there before; a second installation changes nothing about that
        made = kept.made_directories
    else:
        made = ()
        if before is not None and before.strip():
            before = without_ours(file, decoded(file, before)).encode()
    # Remembered first: after a crash in between, the digest says that it does not count.
    file.keep(Kept(before, digest(change.after), made))
    created = file.replace(change.before, change.after)
    if created:
        file.keep(Kept(before, digest(change.after), created))


def apply_uninstall(file: SettingsFile, change: Change) -> None:
    kept = file.kept()
    file.replace(change.before, change.after)
    file.forget(kept.made_directories if kept is not None and change.after is None else ())


def installed(file: SettingsFile) -> dict[str, str]:
    """Our entries: event -> command. Raises ``SettingsFileRefused``."""
    before = file.read()
    if before is None or not before.strip():
        return {}
    found = entries(checked(file, decoded(file, before)))
    return {event: first_command(groups[0]) for event, groups in found.items() if groups}


def hooks_disabled(file: SettingsFile) -> bool:
    """Whether Claude Code is told to run no hooks at all."""
    before = file.read()
    if before is None or not before.strip():
        return False
    node = checked(file, decoded(file, before)).child("disableAllHooks")
    return node is not None and node.value is True


def _entry(agent: AgentName, event: str, line: str) -> dict[str, Any]:
    brief = event in AGENTS[agent].brief
    handler = {"type": "command", "command": line, "timeout": _BRIEF_TIMEOUT if brief else _TIMEOUT}
    matcher = {"matcher": _NOTIFICATIONS} if event == "Notification" else {}
    return {**matcher, "hooks": [handler]}

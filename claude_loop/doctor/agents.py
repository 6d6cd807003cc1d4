"""The hooks of coding agents: there, whole, able to run, and trusted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from claude_loop import hook_settings, hook_status
from claude_loop.agents import AGENTS, AgentName
from claude_loop.doctor.finding import Check, Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene
from claude_loop.errors import SettingsFileRefused
from claude_loop.hook_settings import Scope
from claude_loop.settings_files import SettingsFile


def has_hooks(scene: Scene, agent: AgentName) -> Iterator[Finding]:
    name = AGENTS[agent].title
    found = list(_in(scene, agent, "user"))
    if _file(scene, agent, "project").target != _file(scene, agent, "user").target:  # in one's home they are one
        found += _in(scene, agent, "project")
    if found:
        yield from found
    elif _is_here(scene, agent):
        yield warning(f"{name} is here, and has no hooks of ours.", f"claude-loop hooks install --agent {agent}")
    else:
        yield ok(f"{name} is not here.")


def _in(scene: Scene, agent: AgentName, scope: Scope) -> Iterator[Finding]:
    """Nothing where no hook of ours is; ``scope`` as in `claude-loop hooks install --user|--project`."""
    file = _file(scene, agent, scope)
    install = f"claude-loop hooks install --agent {agent} --{scope}"
    try:
        found = hook_status.look(file, agent)
    except (SettingsFileRefused, OSError) as failure:
        yield problem(f"{file.path} cannot be read: {getattr(failure, 'message', failure)}", f"ls -l {file.path}")
        return
    if not found.programs:
        return
    if found.missing:
        yield problem(f"The hooks in {file.path} run {found.missing[0]}, which is not there.", install)
    elif found.switched_off:
        off = AGENTS[agent].off
        yield problem(f"Hooks are switched off beside {file.path} ({off}).", f'"${{EDITOR:-vi}}" {file.path}')
    elif not found.is_complete:
        yield warning(f"{file.path} has {found.have} of {found.wanted} hooks.", install)
    elif agent == "codex" and (unreviewed := hook_status.codex_unreviewed(file)):
        yield problem(
            f"Codex skips {unreviewed} of the hooks in {file.path} until you have reviewed them: type /hooks in it.",
            "codex",
        )
    else:
        yield ok(f"{AGENTS[agent].title} has our hooks in {file.path}.")


def _file(scene: Scene, agent: AgentName, scope: Scope) -> SettingsFile:
    here = scene.directory
    root = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return SettingsFile(hook_settings.location(agent, scope, root, scene.environ).absolute(), scene.home)


def _is_here(scene: Scene, agent: AgentName) -> bool:
    settings = hook_settings.location(agent, "user", Path(), scene.environ)
    return settings.parent.is_dir() or shutil.which(agent, path=scene.environ.get("PATH", "")) is not None


CHECKS: dict[str, Check] = {f"hooks.{agent}": partial(has_hooks, agent=agent) for agent in AGENTS}

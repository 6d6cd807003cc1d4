"""`hooks`: putting our entries into the settings of Claude Code or Codex, and taking them out again."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from claude_loop import hook_settings, resources
from claude_loop.agents import AGENTS, AgentName
from claude_loop.cli.terminal import note, printable, put
from claude_loop.errors import SettingsFileRefused
from claude_loop.hook_settings import EVENTS, Change, Scope
from claude_loop.hook_status import codex_hooks_on, look
from claude_loop.paths import Home
from claude_loop.settings_files import SettingsFile

SCOPES: tuple[Scope, ...] = ("user", "project")
F = TypeVar("F", bound=Callable[..., None])


def _where(function: F) -> F:
    options = (
        click.option(
            "--agent", type=click.Choice(list(AGENTS)), default="claude", show_default=True, help="Whose settings."
        ),
        click.option("--user", "scope", flag_value="user", default=True, help="In your own settings [default]."),
        click.option("--project", "scope", flag_value="project", help="In the settings of this repository."),
    )
    for option in reversed(options):
        function = option(function)
    return function


_dry_run = click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")


@click.group()
def hooks() -> None:
    """Have Claude Code or Codex report what they do, through their hooks.

    The hooks only observe. They work with the daemon down, print nothing and never fail.
    """


@hooks.command(short_help="Add our hooks to an agent's settings.")
@_where
@_dry_run
def install(agent: AgentName, scope: Scope, dry_run: bool) -> None:  # noqa: FBT001 - click's way
    """Add our hooks to the agent's settings; everything else in them stays as it is."""
    file = _file(agent, scope)
    line = hook_settings.command(resources.lasting(resources.hook()), agent)
    change = hook_settings.install(file, agent, line)
    if change.before == change.after:
        note(f"{file.path} has the hooks already")
    elif dry_run:
        _show(file, change)
    else:
        hook_settings.apply_install(file, change)
        note(f"added {len(EVENTS[agent])} hooks to {file.path}")
    if not dry_run:
        _say_what_is_next(agent, scope, file)


@hooks.command(short_help="Take them out again.")
@_where
@_dry_run
def uninstall(agent: AgentName, scope: Scope, dry_run: bool) -> None:  # noqa: FBT001 - click's way
    """Take our hooks out again: the file is what it was, byte for byte, if nobody else has changed it since."""
    file = _file(agent, scope)
    change = hook_settings.uninstall(file)
    if change.before == change.after:
        note(f"{file.path} has no hooks of ours")
    elif dry_run:
        _show(file, change)
    else:
        hook_settings.apply_uninstall(file, change)
        note(f"removed {file.path}: it held nothing else" if change.after is None else f"removed ours from {file.path}")


@hooks.command(short_help="Say where our hooks are.")
@click.option("--agent", type=click.Choice(list(AGENTS)), help="Only this one.")
@click.option("--project", "scope", flag_value="project", help="Only the settings of this repository.")
@click.option("--user", "scope", flag_value="user", help="Only your own settings.")
def status(agent: AgentName | None, scope: Scope | None) -> None:
    """Say where our hooks are: of which agent, for you everywhere or for this repository."""
    for name in (agent,) if agent else AGENTS:
        for each in (scope,) if scope else SCOPES:
            file = _file(name, each)
            put(f"{AGENTS[name].title}, {each}: {_state(name, file)} ({printable(file.path)})")


def _state(agent: AgentName, file: SettingsFile) -> str:
    try:
        found = look(file, agent)
    except SettingsFileRefused as refusal:
        return f"cannot be read: {printable(refusal.message)}"
    if not found.programs:
        return "not installed"
    words = (
        "installed"
        if found.is_complete
        else f"{found.have} of {found.wanted} hooks: `claude-loop hooks install` adds them"
    )
    if found.missing:
        return f"{words}, but {printable(found.missing[0])} is not there"
    if not found.switched_off:
        return words
    return f"{words}, but all hooks are off there ({AGENTS[agent].off})"


def _file(agent: AgentName, scope: Scope) -> SettingsFile:
    path = hook_settings.location(agent, scope, _project_root(), os.environ)
    return SettingsFile(path.absolute(), Home.from_environment())


def _project_root() -> Path:
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def _show(file: SettingsFile, change: Change) -> None:
    before, after = ((part or b"").decode().splitlines(keepends=True) for part in (change.before, change.after))
    for line in difflib.unified_diff(before, after, str(file.path), str(file.path)):
        put(printable(line.rstrip("\r\n"), 2_000))


def _say_what_is_next(agent: AgentName, scope: Scope, file: SettingsFile) -> None:
    if agent == "codex":
        note("Codex runs new hooks only once you have trusted them: start `codex`, type /hooks, and review them.")
        note(
            "Without a terminal nobody can be asked: `codex exec --dangerously-bypass-hook-trust` runs them untrusted."
        )
        if not codex_hooks_on(hook_settings.location("codex", "user", Path(), os.environ)):
            note("Hooks are off in config.toml: remove `hooks = false` under [features].")
    if agent == "claude":
        _say_what_claude_needs(scope, file)


def _say_what_claude_needs(scope: Scope, file: SettingsFile) -> None:
    note("Sessions that run already take them up by themselves; /hooks lists them.")
    if scope == "project":
        note("The file names a path of this machine: for others who use the repository, --user is the better place.")
    if hook_settings.hooks_disabled(file):
        note("All hooks are off in these settings: remove `disableAllHooks`.")

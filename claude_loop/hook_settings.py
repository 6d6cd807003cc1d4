"""Our entries in the settings of coding agents: which hooks, where, and how they get in and out again.

Only hooks that observe. Never `WorktreeCreate`, which would take git's place. All of them are waited for by the agent:
a call takes three milliseconds, while calls beside each other could be stored in the wrong order, and those that still
run when the agent ends are killed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from claude_loop.errors import InvalidJson, SettingsFileRefused
from claude_loop.formats import json_edit
from claude_loop.formats.json_edit import Node
from claude_loop.settings_files import Kept, SettingsFile, digest

AgentName = Literal["claude", "codex"]
Scope = Literal["user", "project"]

# A permission is told by PermissionRequest, with the command, which a notification lacks.
_NOTIFICATIONS = "idle_prompt|agent_needs_input"
# Seconds after which an agent goes on without the hook.
_TIMEOUT = 5
_END_TIMEOUT = 3
_CLAUDE = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PermissionDenied", "PostToolUse",
    "PostToolUseFailure", "Notification", "Elicitation", "ElicitationResult", "SubagentStart", "SubagentStop",
    "TaskCreated", "TaskCompleted", "PreCompact", "PostCompact", "Stop", "StopFailure", "SessionEnd",
)  # fmt: skip
_CODEX = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "PreCompact", "PostCompact",
    "SubagentStart", "SubagentStop", "Stop", "Interrupt", "SessionEnd",
)  # fmt: skip
EVENTS: dict[AgentName, tuple[str, ...]] = {"claude": _CLAUDE, "codex": _CODEX}
_OURS = re.compile(r"(?:^|[/\s'\"])claude-loop-hook['\"]?\s+(?:claude|codex)\s*\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """What a file has and what it would have; None: no file. The same: nothing to do."""

    before: bytes | None
    after: bytes | None


def location(agent: AgentName, scope: Scope, root: Path, environ: Mapping[str, str]) -> Path:
    """Where the agent looks for hooks; ``root`` is the project's."""
    if scope == "project":
        return root / (".claude/settings.json" if agent == "claude" else ".codex/hooks.json")
    home = Path(environ.get("HOME") or Path.home())
    if agent == "claude":
        return Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude") / "settings.json"
    return Path(environ.get("CODEX_HOME") or home / ".codex") / "hooks.json"


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
    text = _text(file, before) if before and before.strip() else "{}\n"
    wanted = {event: _entry(agent, event, line) for event in EVENTS[agent]}
    ours = _entries(_checked(file, text))
    if {event: groups for event, groups in ours.items() if groups} == {
        event: [group] for event, group in wanted.items()
    }:
        return Change(before, before)
    text = _without_ours(file, text)
    for event, entry in wanted.items():
        text = json_edit.add_item(text, ("hooks", event), entry)
    return Change(before, text.encode())


def uninstall(file: SettingsFile) -> Change:
    """What taking our entries out would make of it. Raises ``SettingsFileRefused``."""
    before = file.read()
    if before is None or not before.strip():
        return Change(before, before)
    text = _text(file, before)
    kept = file.kept()
    if not any(_entries(_checked(file, text)).values()):
        return Change(before, before)
    if kept is not None and kept.after_digest == digest(before):
        return Change(before, kept.before)
    return Change(before, _without_ours(file, text).encode())


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
            before = _without_ours(file, _text(file, before)).encode()
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
    found = _entries(_checked(file, _text(file, before)))
    return {event: _first_command(groups[0]) for event, groups in found.items() if groups}


def hooks_disabled(file: SettingsFile) -> bool:
    """Whether Claude Code is told to run no hooks at all."""
    before = file.read()
    if before is None or not before.strip():
        return False
    node = _checked(file, _text(file, before)).child("disableAllHooks")
    return node is not None and node.value is True


# -- the entries -------------------------------------------------------------------------------------------------


def _entry(agent: AgentName, event: str, line: str) -> dict[str, Any]:
    ends = agent == "codex" and event in ("SessionEnd", "Interrupt")
    handler = {"type": "command", "command": line, "timeout": _END_TIMEOUT if ends else _TIMEOUT}
    matcher = {"matcher": _NOTIFICATIONS} if event == "Notification" else {}
    return {**matcher, "hooks": [handler]}


def _text(file: SettingsFile, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as failure:
        line = content.count(b"\n", 0, failure.start) + 1
        raise SettingsFileRefused(f"{file.path}, line {line}: it is not UTF-8.") from None


def _checked(file: SettingsFile, text: str) -> Node:
    """The file's tree, if it has the shape that is known."""
    try:
        root = json_edit.parse(text)
    except InvalidJson as failure:
        raise SettingsFileRefused(f"{file.path}, {failure.message}.", hint=failure.hint) from None
    _insist(file, text, root, "object", "the settings")
    hooks = root.child("hooks")
    if hooks is not None:
        _insist(file, text, hooks, "object", "`hooks`")
        for event, groups in zip(hooks.keys, hooks.children, strict=True):
            _insist(file, text, groups, "list", f"`hooks.{event}`")
            for group in groups.children:
                _insist(file, text, group, "object", f"each entry of `hooks.{event}`")
                handlers = group.child("hooks")
                if handlers is not None:
                    _insist(file, text, handlers, "list", f"`hooks` in an entry of `hooks.{event}`")
    return root


def _insist(file: SettingsFile, text: str, node: Node, kind: str, name: str) -> None:
    if node.kind != kind:
        line = json_edit.line_of(text, node)
        raise SettingsFileRefused(
            f"{file.path}, line {line}: {name} should be {'an object' if kind == 'object' else 'a list'}."
        )


def _entries(root: Node) -> dict[str, list[Any]]:
    """Groups that hold a handler of ours: event -> the groups as values."""
    hooks = root.child("hooks")
    found: dict[str, list[Any]] = {}
    if hooks is not None:
        for event, groups in zip(hooks.keys, hooks.children, strict=True):
            found[event] = [_plain(group) for group in groups.children if _handlers(group)]
    return found


def _handlers(group: Node) -> list[int]:
    """Which handlers of a group are ours."""
    handlers = group.child("hooks")
    if handlers is None or handlers.kind != "list":
        return []
    return [index for index, handler in enumerate(handlers.children) if _is_ours(handler)]


def _is_ours(handler: Node) -> bool:
    return is_our_handler(_plain(handler))


def is_our_handler(handler: Any) -> bool:
    """Whether one handler of an agent's settings, as parsed JSON, is ours."""
    return _OURS.search(_line(handler)) is not None


def _line(handler: Any) -> str:
    """The command with its arguments, which may stand apart."""
    if not isinstance(handler, dict) or not isinstance(handler.get("command"), str):
        return ""
    words = handler.get("args")
    return " ".join([handler["command"], *map(str, words if isinstance(words, list) else ())])


def _plain(node: Node) -> Any:
    if node.kind == "object":
        return {key: _plain(child) for key, child in zip(node.keys, node.children, strict=True)}
    return [_plain(child) for child in node.children] if node.kind == "list" else node.value


def _first_command(group: Any) -> str:
    return next(line for line in map(_line, group["hooks"]) if _OURS.search(line))


def _without_ours(file: SettingsFile, text: str) -> str:
    """``text`` without our handlers, and without what is empty when they are gone."""
    while True:
        hooks = _checked(file, text).child("hooks")
        path = _next_to_remove(hooks) if hooks is not None else None
        if path is None:
            return text
        text = json_edit.remove(text, path)


def _next_to_remove(hooks: Node) -> json_edit.Path | None:
    for event, groups in zip(hooks.keys, hooks.children, strict=True):
        for index, group in enumerate(groups.children):
            ours = _handlers(group)
            if not ours:
                continue
            handlers = group.child("hooks")
            if handlers is None or len(handlers.children) > len(ours):
                return ("hooks", event, index, "hooks", ours[-1])
            if len(groups.children) > 1:
                return ("hooks", event, index)
            return ("hooks", event) if len(hooks.keys) > 1 else ("hooks",)
    return None

"""Our entries in an agent's settings: what shape the file must have, which of them are ours, taking them out."""

from __future__ import annotations

import re
from typing import Any

from claude_loop.agents import AGENTS
from claude_loop.errors import InvalidJson, SettingsFileRefused
from claude_loop.formats import json_edit
from claude_loop.formats.json_edit import Node
from claude_loop.settings_files import SettingsFile

_OURS = re.compile(r"(?:^|[/\s'\"])claude-loop-hook['\"]?\s+(?:" + "|".join(AGENTS) + r")\s*\Z")


def decoded(file: SettingsFile, content: bytes) -> str:
    """Raises ``SettingsFileRefused``."""
    try:
        return content.decode()
    except UnicodeDecodeError as failure:
        line = content.count(b"\n", 0, failure.start) + 1
        raise SettingsFileRefused(f"{file.path}, line {line}: it is not UTF-8.") from None


def checked(file: SettingsFile, text: str) -> Node:
    """The file's tree. Raises ``SettingsFileRefused`` when it has not the shape that is known."""
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


def entries(root: Node) -> dict[str, list[Any]]:
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


def first_command(group: Any) -> str:
    return next(line for line in map(_line, group["hooks"]) if _OURS.search(line))


def without_ours(file: SettingsFile, text: str) -> str:
    """``text`` without our handlers, and without what is empty when they are gone."""
    while True:
        hooks = checked(file, text).child("hooks")
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

"""Changing JSON that belongs to somebody else, as text: what is not changed keeps its every character.

Order, indentation, blank lines and line ends stay; what is added takes the style of what is around it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from claude_loop.errors import InvalidJson

_BLANK = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\]}]+', re.DOTALL)
_INDENT = re.compile(r"(?:^|\n)([ \t]*)[^\n]*\Z")
Path = tuple[str | int, ...]


@dataclass(slots=True)
class Node:
    """A value and where it is: `text[start:end]`. `keys` of an object are parallel to `children`; of a list there are
    none. A member begins at its key."""

    start: int
    end: int
    value: Any = None
    kind: str = "scalar"
    keys: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)

    def child(self, key: str | int) -> Node | None:
        if isinstance(key, int):
            return self.children[key] if self.kind == "list" and key < len(self.children) else None
        return self.children[self.keys.index(key)] if self.kind == "object" and key in self.keys else None


def parse(text: str) -> Node:
    """The tree of one JSON value. Raises ``InvalidJson`` with the line, for two equal keys in an object too."""
    try:
        json.loads(text, parse_constant=_no_constant, object_pairs_hook=_pairs)
    except json.JSONDecodeError as failure:
        hint = "JSON has no comments." if _has_comment(text, failure.lineno) else "Mend it, then try again."
        raise InvalidJson(f"line {failure.lineno}: {failure.msg}", hint=hint) from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply", hint="") from None
    except ValueError as failure:
        raise InvalidJson(str(failure), hint="Mend it, then try again.") from None
    return _value(text, _skip(text, 0))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {json.dumps(twice)} twice")
    return dict(pairs)


def _has_comment(text: str, line: int) -> bool:
    around = text.splitlines()[max(0, line - 2) : line + 1]
    return any(part.lstrip().startswith(("//", "/*", "#")) or " //" in part for part in around)


def line_of(text: str, node: Node) -> int:
    return text.count("\n", 0, node.start) + 1


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return at if match is None else match.end()


def _value(text: str, at: int) -> Node:
    """What is known to be JSON, from ``at``."""
    if text[at] not in "{[":
        match = _SCALAR.match(text, at)
        assert match is not None  # noqa: S101 - it has been parsed already
        return Node(at, match.end(), json.loads(match[0]))
    is_object = text[at] == "{"
    node = Node(at, at, kind="object" if is_object else "list")
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        node.begins.append(at)
        if is_object:
            key = _value(text, at)
            node.keys.append(key.value)
            at = _skip(text, _skip(text, key.end) + 1)
        child = _value(text, at)
        node.children.append(child)
        at = _skip(text, child.end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    node.end = at + 1
    return node


# -- changes -----------------------------------------------------------------------------------------------------


def add_item(text: str, path: tuple[str, ...], item: Any) -> str:
    """``text`` with ``item`` at the end of the list at ``path``, which is made where it is missing."""
    node = parse(text)
    for depth, key in enumerate(path):
        child = node.child(key)
        if child is None:
            made: Any = [item]
            for inner in reversed(path[depth + 1 :]):
                made = {inner: made}
            return _append(text, node, made, key)
        node = child
    return _append(text, node, item, None)


def remove(text: str, path: Path) -> str:
    """``text`` without the member or item at ``path``, and the comma that went with it."""
    *above, last = path
    node = parse(text)
    for key in above:
        child = node.child(key)
        if child is None:
            return text
        node = child
    if node.child(last) is None:
        return text
    index = last if isinstance(last, int) else node.keys.index(last)
    if len(node.children) == 1:
        start, end = node.start + 1, node.end - 1
    elif index == 0:
        start, end = node.begins[0], node.begins[1]
    else:
        start, end = node.children[index - 1].end, node.children[index].end
    return text[:start] + text[end:]


def _append(text: str, node: Node, value: Any, key: str | None) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    unit = _unit(text)
    name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
    if unit is None or (node.children and "\n" not in text[node.start : node.begins[0]]):
        # All in one line, as its neighbours are.
        new = name + json.dumps(value, ensure_ascii=False)
        at = node.children[-1].end if node.children else node.start + 1
        return text[:at] + (", " if node.children else "") + new + text[at if node.children else node.end - 1 :]
    outer = _indent(text, node.start)
    inner = _indent(text, node.begins[-1]) if node.children else outer + unit
    shown = json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", newline + inner)
    if node.children:
        at = node.children[-1].end
        return f"{text[:at]},{newline}{inner}{name}{shown}{text[at:]}"
    return f"{text[: node.start + 1]}{newline}{inner}{name}{shown}{newline}{outer}{text[node.end - 1 :]}"


def _unit(text: str) -> str | None:
    """One step of indentation; None where all is in one line."""
    root = parse(text)
    if not root.children:
        return "  "
    if "\n" not in text[root.start : root.begins[0]]:
        return None
    return _indent(text, root.begins[0])[len(_indent(text, root.start)) :] or "  "


def _indent(text: str, at: int) -> str:
    """What the line of ``at`` begins with."""
    match = _INDENT.search(text[text.rfind("\n", 0, at) + 1 : at])
    return match[1] if match else ""

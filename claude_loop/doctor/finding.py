"""What a check says: how it is, in one sentence, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from claude_loop.doctor.scene import Scene

Level = Literal["ok", "warning", "problem"]


class Finding(NamedTuple):
    """``fix`` is a command line; empty where nothing needs mending."""

    level: Level
    sentence: str
    fix: str = ""


Check = Callable[[Scene], Iterable[Finding]]


def ok(sentence: str) -> Finding:
    return Finding("ok", sentence)


def warning(sentence: str, fix: str) -> Finding:
    """Something works less well than it could, or will not for long."""
    return Finding("warning", sentence, fix)


def problem(sentence: str, fix: str) -> Finding:
    """Something does not work."""
    return Finding("problem", sentence, fix)

"""What a line of an agent's JSON output tells of its use: Claude's result, Codex's turns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from claude_loop.json_text import read_json

# A result holds the agent's last words; a longer one tells nothing.
LONGEST_LINE = 64 * 1024
_SESSION = re.compile(r"[\w.:-]{1,128}\Z", re.ASCII)
_LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Thread:
    """The session of Codex whose turns follow: they do not name it."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a session has used from its beginning to now, its subagents' use included; None is not known."""

    session_id: str | None
    cost_usd: float | None
    input_tokens: int | None  # with what was read from and written to the cache
    output_tokens: int | None
    model: str | None  # the one that cost most


def usage_of(line: str) -> Usage | Thread | None:
    """``line`` is one JSON object, or an array of them that ends in Claude's result."""
    if not line.startswith(("{", "[{")) or len(line) > LONGEST_LINE:
        return None
    try:
        told = read_json(line)
    except ValueError:
        return None
    if isinstance(told, list):
        told = told[-1]
    if not isinstance(told, dict):
        return None
    return {"result": _of_claude, "turn.completed": _of_codex, "thread.started": _thread}.get(
        str(told.get("type")), _nothing
    )(told)


def _nothing(_: dict[str, Any]) -> None:
    return None


def _thread(told: dict[str, Any]) -> Thread | None:
    session_id = _session(told.get("thread_id"))
    return None if session_id is None else Thread(session_id)


def _of_codex(told: dict[str, Any]) -> Usage | None:
    """Its input tokens have those of the cache in them."""
    usage = told.get("usage")
    return _usage(None, None, [usage], ("input_tokens",), "output_tokens", None)


def _of_claude(told: dict[str, Any]) -> Usage | None:
    """`modelUsage` has the subagents too, as the cost has; older versions tell of the main loop only."""
    models = told.get("modelUsage")
    by_model = {name: each for name, each in models.items() if isinstance(each, dict)} if type(models) is dict else {}
    session_id, cost = _session(told.get("session_id")), _amount(told.get("total_cost_usd"))
    if not by_model:
        inputs = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return _usage(session_id, cost, [told.get("usage")], inputs, "output_tokens", None)
    dearest = max(by_model, key=lambda name: _amount(by_model[name].get("costUSD")) or 0)
    inputs = ("inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens")
    return _usage(session_id, cost, by_model.values(), inputs, "outputTokens", dearest)


def _usage(
    session_id: str | None, cost: float | None, parts: Iterable[Any], inputs: tuple[str, ...], output: str,
    model: str | None,
) -> Usage | None:  # fmt: skip
    parts = [part for part in parts if isinstance(part, dict)]
    read, written = _sum(parts, inputs), _sum(parts, (output,))
    if cost is None and read is None and written is None:
        return None
    return Usage(session_id, cost, read, written, model)


def _sum(parts: list[dict[str, Any]], keys: tuple[str, ...]) -> int | None:
    counts = [part[key] for part in parts for key in keys if type(part.get(key)) is int and part[key] >= 0]
    total = sum(counts)
    return total if counts and total <= _LARGEST else None


def _amount(value: Any) -> float | None:
    return value if type(value) in (int, float) and 0 <= value <= _LARGEST else None


def _session(value: Any) -> str | None:
    return value if isinstance(value, str) and _SESSION.match(value) else None

"""One event as one line of text, for `tail` and everything that narrates with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from claude_loop.cli.amounts import spent
from claude_loop.cli.outcomes import Data, Line, Lookup, prd_completed, story_completed
from claude_loop.cli.terminal import clock_time, columns, duration, padded, plural, printable
from claude_loop.clock import parse_time
from claude_loop.event_words import EVENT_WORDS, SIGNS, Tone, Words
from claude_loop.events import BLANK

# The subject column grows with what it has seen, from a usual name's width to a long one's.
MIN_SUBJECT, MAX_SUBJECT = 18, 44
_INVALID = "_invalid"
_FULL_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")


def describe(event: dict[str, Any], lookup: Lookup) -> Line:
    """What happened, in a mark and words, and what is wrong with the event itself.

    Any JSON may stand in ``data``: the spool keeps what it can.
    """
    data = event["data"] if isinstance(event["data"], dict) else {}
    line = _described(event, data, lookup)
    fault = _fault(data.get(_INVALID))
    return replace(line, text=f"{line.text} · not valid: {fault}", colour=line.colour or "yellow") if fault else line


def _fault(reasons: Any) -> str:
    """Why the spool marked the event, for whoever writes the script that emits it."""
    if not isinstance(reasons, list) or not reasons:
        return ""
    more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return printable(reasons[0], 120).removesuffix(".") + more


def _described(event: dict[str, Any], data: Data, lookup: Lookup) -> Line:
    if data == BLANK:
        return Line("·", f"{printable(event['type'], 80)}, forgotten")
    if event["type"] == "story.completed":
        return story_completed(event, data, lookup)
    if event["type"] == "prd.completed":
        return prd_completed(event, data, lookup)
    known = _KNOWN.get(event["type"])
    return Line("·", _free(event["type"], data)) if known is None else known(data)


def result_of_tests(passed: Any, failed: Any, skipped: Any = None, names: str = "") -> str:
    """``10 passed 2 failed: test_total, test_coupon``."""
    if not (_is_count(passed) and _is_count(failed)):
        return "without a readable result"
    words = [f"{passed} passed"]
    if failed:
        words.append(f"{failed} failed")
    if _is_count(skipped) and skipped:
        words.append(f"{skipped} skipped")
    return " ".join(words) + (f": {names}" if names else "")


def short_hash(commit: object) -> str:
    """As git shortens it; other names are cut where they grow long."""
    text = printable(commit, 80)
    return text[:7] if _FULL_HASH.match(text) else printable(text, 12)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _prd_started(data: Data) -> Line:
    parts = ["started"]
    if _is_count(data.get("total_stories")):
        parts.append(plural(data["total_stories"], "story"))
    if data.get("title"):
        parts.append(printable(data["title"], 80))
    return Line("▶", ", ".join(parts), "cyan")


def _run_started(data: Data) -> Line:
    command = f": {printable(data['command'], 120)}" if data.get("command") else ""
    return Line("▶", f"run started{command}", "cyan")


def _run_completed(data: Data) -> Line:
    code, success = data.get("exit_code"), data.get("success")
    status = f", exit status {code}" if _is_count(code) else ""
    failed = success is False or (success is None and _is_count(code) and code != 0)
    return Line("■", f"run {'failed' if failed else 'ended'}{status}", "red" if failed else "green")


def _iteration(word: str) -> Callable[[Data], Line]:
    def line(data: Data) -> Line:
        most = f" of {data['max_iterations']}" if _is_count(data.get("max_iterations")) else ""
        return Line("↻", f"iteration {printable(data.get('iteration', '?'), 20)}{most}{word}", "cyan")

    return line


def _test_run(data: Data) -> Line:
    passed, failed = data.get("passed"), data.get("failed")
    text = result_of_tests(passed, failed, data.get("skipped"), _failing_names(data.get("failures")))
    good = failed == 0 and isinstance(passed, int) and passed > 0
    return Line("✓" if good else "✗", f"tests {text}", "green" if good else "red")


def _failing_names(failures: Any, most: int = 5) -> str:
    if not isinstance(failures, list):
        return ""
    names = [printable(f["name"], 80) for f in failures if isinstance(f, dict) and "name" in f]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _commit(data: Data) -> Line:
    subject = printable(data.get("subject") or "", 100)
    return Line("●", f"commit {short_hash(data.get('commit_hash', '?'))} {subject}".rstrip(), "yellow")


def _log(data: Data) -> Line:
    level = printable(data.get("level") or "info", 10)
    prefix = "" if level == "info" else f"{level}: "
    colour = {"warn": "yellow", "warning": "yellow", "error": "red", "critical": "red"}.get(level.lower())
    return Line("·", prefix + printable(data.get("message", ""), 300), colour)


def _progress(data: Data) -> Line:
    message = f" {printable(data['message'], 200)}" if data.get("message") else ""
    return Line("·", f"{_figure(data.get('current', '?'))} of {_figure(data.get('total', '?'))}{message}")


def _figure(value: object) -> str:
    """A number as people write it: 3, where it is stored as 3.0."""
    return printable(int(value) if isinstance(value, float) and value.is_integer() else value, 20)


def _waiting(data: Data) -> Line:
    whom = {"human": "you", "rate_limit": "the rate limit"}.get(str(data.get("for")), "something")
    until = f", until {_until(data['until'])}" if data.get("until") else ""
    return Line("⏸", f"waiting for {whom}: {printable(data.get('reason', ''), 200)}{until}", "magenta")


def _until(value: Any) -> str:
    try:
        return clock_time(parse_time(value) // 1000)
    except (TypeError, ValueError, OverflowError):
        return printable(value, 40)


def _simply(told: Words) -> Callable[[Data], Line]:
    """A line of fixed words, and what one field holds behind them."""

    def line(data: Data) -> Line:
        value = printable(data.get(told.field) or "", 300)
        words = f"{told.words}: {value}" if value else told.words
        return Line(told.sign or SIGNS[told.mark], words, _COLOURS.get(told.tone))

    return line


def _free(type_: str, data: Data, most: int = 6) -> str:
    pairs = [(key, value) for key, value in data.items() if key != _INVALID]
    shown = [f"{printable(key, 40)}={_value(value)}" for key, value in pairs[:most]]
    return " ".join([printable(type_, 60), *shown, *(["…"] if len(pairs) > most else [])])


def _value(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 60)


def _session_started(data: Data) -> Line:
    agent = printable(data.get("agent") or "an agent", 40)
    model = f" ({printable(data['model'], 60)})" if data.get("model") else ""
    return Line("◇", f"{agent}{model} begins a session", "cyan")


def _tool(mark: str, colour: str | None = None) -> Callable[[Data], Line]:
    """``Bash pytest -q · 1.2 s``."""

    def line(data: Data) -> Line:
        words = " ".join(printable(data[key], 160) for key in ("tool", "summary") if data.get(key)) or "a tool"
        took = data.get("duration_ms")
        if isinstance(took, int | float) and not isinstance(took, bool) and took >= 1000:
            words += f" · {duration(round(took))}"
        error = f": {printable(data['error'], 160)}" if data.get("error") else ""
        return Line(mark, words + error, colour)

    return line


def _subagent(words: str) -> Callable[[Data], Line]:
    def line(data: Data) -> Line:
        kind = printable(data.get("agent_type") or "a subagent", 40)
        about = f": {printable(data['description'], 160)}" if data.get("description") else ""
        return Line("◇", f"{kind} {words}{about}")

    return line


def _retrying(data: Data) -> Line:
    attempt = f", attempt {data['attempt']}" if _is_count(data.get("attempt")) else ""
    most = f" of {data['max_attempts']}" if attempt and _is_count(data.get("max_attempts")) else ""
    return Line("↻", f"tries again after {printable(data.get('error', 'an error'), 160)}{attempt}{most}", "yellow")


def _plan(data: Data) -> Line:
    stories = data.get("stories")
    if not isinstance(stories, list):
        return Line("≡", "plan", "cyan")
    done = sum(isinstance(story, dict) and story.get("passes") is True for story in stories)
    return Line("≡", f"plan: {plural(len(stories), 'story')}{f', {done} done' if done else ''}", "cyan")


def _usage(data: Data) -> Line:
    model = f" ({printable(data['model'], 60)})" if data.get("model") else ""
    total = " by its session so far" if data.get("cumulative") is True else ""
    return Line("·", f"used {', '.join(spent(data)) or 'an unreadable amount'}{total}{model}")


_COLOURS: dict[Tone, str] = {"running": "cyan", "bad": "red", "blocked": "yellow"}
_KNOWN: dict[str, Callable[[Data], Line]] = {
    **{type_: _simply(told) for type_, told in EVENT_WORDS.items()},
    "prd.started": _prd_started,
    "run.started": _run_started,
    "run.completed": _run_completed,
    "iteration.started": _iteration(""),
    "iteration.completed": _iteration(" completed"),
    "test.run": _test_run,
    "commit.created": _commit,
    "log.message": _log,
    "progress.updated": _progress,
    "agent.waiting": _waiting,
    "agent.retrying": _retrying,
    "session.started": _session_started,
    "tool.started": _tool("…"),
    "tool.completed": _tool("·"),
    "tool.failed": _tool("✗", "yellow"),
    "subagent.started": _subagent("begins"),
    "subagent.ended": _subagent("has ended"),
    "plan.updated": _plan,
    "usage.reported": _usage,
}


class Subjects:
    """The column that says what a line is about, wide enough for what came so far."""

    def __init__(self) -> None:
        self._width = MIN_SUBJECT

    def column(self, event: dict[str, Any]) -> str:
        where = "/".join(printable(part, 40) for part in (event["project"], event["prd_id"]) if part)
        subject = " ".join(part for part in (where, printable(event["story_id"] or "", 40)) if part) or "-"
        self._width = max(self._width, min(columns(subject), MAX_SUBJECT))
        return padded(subject, self._width)

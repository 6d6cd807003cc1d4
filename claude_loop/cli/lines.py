"""One event as one line of text, for `tail` and everything that narrates with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claude_loop.cli.terminal import clock_time, duration, plural, printable
from claude_loop.clock import parse_time

# The subject column grows with what it has seen, from a usual name's width to a long one's.
MIN_SUBJECT, MAX_SUBJECT = 18, 44


@dataclass(frozen=True, slots=True)
class Line:
    """``mark`` carries the meaning without its colour; ``colour`` is a name that click knows."""

    mark: str
    text: str
    colour: str | None = None


# What a line may need to know beyond its event: the story's document as it stands, or None.
StoryLookup = Callable[[dict[str, Any]], dict[str, Any] | None]
Data = dict[str, Any]


def describe(event: dict[str, Any], story: StoryLookup) -> Line:
    """What happened, in a mark and words. Any JSON may stand in ``data``: the spool keeps what it can."""
    known = _KNOWN.get(event["type"])
    data = event["data"] if isinstance(event["data"], dict) else {}
    if known is not None:
        return known(data)
    if event["type"] == "story.completed":
        return _story_completed(event, data, story)
    return Line("·", _free(event["type"], data))


def _prd_started(data: Data) -> Line:
    parts = ["started"]
    if isinstance(data.get("total_stories"), int):
        parts.append(plural(data["total_stories"], "story"))
    if data.get("title"):
        parts.append(printable(data["title"], 80))
    return Line("▶", ", ".join(parts), "cyan")


def _prd_completed(data: Data) -> Line:
    if data.get("success") is True:
        return Line("■", "says it is finished", "green")
    return Line("■", "finished without success", "red")


def _run_completed(data: Data) -> Line:
    code = data.get("exit_code")
    tail = f", exit status {code}" if isinstance(code, int) else ""
    if data.get("success") is True:
        return Line("■", f"run ended{tail}", "green")
    return Line("■", f"run failed{tail}", "red")


def _run_started(data: Data) -> Line:
    command = f": {printable(data['command'], 120)}" if data.get("command") else ""
    return Line("▶", f"run started{command}", "cyan")


def _iteration(word: str) -> Callable[[Data], Line]:
    def line(data: Data) -> Line:
        most = f" of {data['max_iterations']}" if isinstance(data.get("max_iterations"), int) else ""
        return Line("↻", f"iteration {printable(data.get('iteration', '?'), 20)}{most}{word}", "cyan")

    return line


def _test_run(data: Data) -> Line:
    passed, failed, skipped = (data.get(key) for key in ("passed", "failed", "skipped"))
    words = [f"tests {printable(passed, 20)} passed"]
    if failed != 0:
        words.append(f"{printable(failed, 20)} failed")
    if skipped:
        words.append(f"{printable(skipped, 20)} skipped")
    names = _failing_names(data.get("failures"))
    good = failed == 0 and isinstance(passed, int) and passed > 0
    return Line("✓" if good else "✗", " ".join(words) + names, "green" if good else "red")


def _failing_names(failures: Any, most: int = 5) -> str:
    if not isinstance(failures, list):
        return ""
    names = [printable(f["name"], 80) for f in failures if isinstance(f, dict) and "name" in f]
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": {', '.join(names[:most])}{more}"


def _commit(data: Data) -> Line:
    hash_ = printable(data.get("commit_hash", "?"), 12)
    return Line("●", f"commit {hash_} {printable(data.get('subject') or '', 100)}".rstrip(), "yellow")


def _error(data: Data) -> Line:
    return Line("!", f"error: {printable(data.get('error', ''), 300)}", "red")


def _log(data: Data) -> Line:
    level = printable(data.get("level", "info"), 10)
    prefix = "" if level == "info" else f"{level}: "
    return Line("·", prefix + printable(data.get("message", ""), 300))


def _progress(data: Data) -> Line:
    message = f" {printable(data['message'], 200)}" if data.get("message") else ""
    return Line("·", f"{printable(data.get('current'), 20)} of {printable(data.get('total'), 20)}{message}")


def _waiting(data: Data) -> Line:
    whom = {"human": "you", "rate_limit": "the rate limit"}.get(str(data.get("for")), "something")
    until = f", until {_until(data['until'])}" if data.get("until") else ""
    return Line("⏸", f"waiting for {whom}: {printable(data.get('reason', ''), 200)}{until}", "magenta")


def _until(value: Any) -> str:
    try:
        return clock_time(parse_time(value) // 1000)
    except (TypeError, ValueError, OverflowError):
        return printable(value, 40)


def _story_completed(event: dict[str, Any], data: Data, lookup: StoryLookup) -> Line:
    if data.get("success") is not True:
        return Line("✗", "failed", "red")
    story = lookup(event)
    if story is None:
        return Line("✓", "says it is done", "green")
    details = [_proof(story)]
    if story.get("worked_ms"):
        details.append(duration(story["worked_ms"]))
    if story.get("attempt", 0) > 1:
        details.append(plural(story["attempt"], "attempt"))
    verified = story.get("state") == "done·verified"
    return Line("✓" if verified else "~", " · ".join(details), "green" if verified else "yellow")


def _proof(story: dict[str, Any]) -> str:
    if story.get("state") == "done·verified":
        return "done, verified"
    why = "; ".join(printable(reason, 100) for reason in story.get("why") or [])
    return f"done, claimed: {why}" if why else "done, claimed"


def _free(type_: str, data: Data) -> str:
    shown = [f"{printable(key, 40)}={printable(value, 60)}" for key, value in list(data.items())[:6]]
    return " ".join([printable(type_, 60), *shown])


_KNOWN: dict[str, Callable[[Data], Line]] = {
    "prd.started": _prd_started,
    "prd.completed": _prd_completed,
    "run.started": _run_started,
    "run.completed": _run_completed,
    "iteration.started": _iteration(""),
    "iteration.completed": _iteration(" completed"),
    "story.started": lambda data: Line("▷", "started", "cyan"),  # noqa: ARG005 - one shape for all
    "test.run": _test_run,
    "commit.created": _commit,
    "error.occurred": _error,
    "log.message": _log,
    "progress.updated": _progress,
    "agent.waiting": _waiting,
    "agent.resumed": lambda data: Line("▶", "goes on", "cyan"),  # noqa: ARG005
    "system.run_owned": lambda data: Line("·", f"process {printable(data.get('pid'), 20)} is watched"),
    "system.run_vanished": lambda data: Line(
        "☠", f"process {printable(data.get('pid'), 20)} is gone without finishing", "red"
    ),
}


class Subjects:
    """The column that says what a line is about, wide enough for what came so far."""

    def __init__(self) -> None:
        self._width = MIN_SUBJECT

    def column(self, event: dict[str, Any]) -> str:
        where = "/".join(printable(part, 40) for part in (event["project"], event["prd_id"]) if part)
        subject = " ".join(part for part in (where, printable(event["story_id"] or "", 40)) if part) or "-"
        self._width = max(self._width, min(len(subject), MAX_SUBJECT))
        return subject.ljust(self._width)

"""The report in words, for the terminal and as Markdown. Both say the same, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from claude_loop.cli.amounts import money
from claude_loop.cli.lines import short_hash
from claude_loop.cli.terminal import duration, plural, printable

Document = dict[str, Any]
_WHOM = {"human": "you", "rate_limit": "the rate limit"}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")
_MARKS = {
    "running": "▶", "waiting": "⏸", "paused": "⏸", "stalled": "…", "vanished": "☠", "failed": "✗",
    "done·claimed": "~", "done·verified": "✓",
}  # fmt: skip


def as_text(report: Document) -> Iterator[str]:
    yield heading(report)
    yield ""
    if report["needs"]:
        yield "Needs you now:"
        yield from (f"  {need_line(need, report)}" for need in report["needs"])
    else:
        yield "Nothing needs you."
    for mark, title, body in parts(report):
        yield ""
        yield f"{mark} {title}"
        yield from (f"    {line}" for line in body)
    if not happened(report):
        yield ""
        yield "Nothing happened."


def as_markdown(report: Document) -> Iterator[str]:
    yield f"# {escaped(heading(report))}"
    yield ""
    yield "## Needs you now" if report["needs"] else "Nothing needs you."
    if report["needs"]:
        yield ""
        yield from (f"- {escaped(need_line(need, report))}" for need in report["needs"])
    for _, title, body in parts(report):
        yield ""
        yield f"## {escaped(title)}"
        yield ""
        for line in body:
            yield f"  - {escaped(line[2:])}" if line.startswith("- ") else f"- {escaped(line)}"
    if not happened(report):
        yield ""
        yield "Nothing happened."


def happened(report: Document) -> bool:
    return bool(report["prds"] or report["projects"])


def parts(report: Document) -> Iterator[tuple[str, str, Iterator[str]]]:
    """A mark, a title and lines for each PRD, then for each project whose agents had none."""
    for prd in report["prds"]:
        yield _MARKS.get(prd["state"], "·"), title_line(prd), body_lines(prd)
    for project in report["projects"]:
        yield "◇", f"{_project(project)}, without a PRD", project_lines(project, report)


def escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def heading(report: Document) -> str:
    until = "now" if report["until"] >= report["now"] else clock(report["until"], report["now"])
    return f"Report: {clock(report['since'], report['now'])} to {until}"


def name_of(document: Document) -> str:
    """A PRD's, or that of an agent that has none: it may have another title, which is only the conversation's."""
    if document["prd_id"] is None:
        agent = printable(document["agent"] or "an agent", 60)
        return f"{agent} in {_project(document)}" if document["project"] else agent
    name = "/".join(printable(part, 60) for part in (document["project"], document["prd_id"]) if part)
    return f"{name} {printable(document['title'], 80)}" if document["title"] else name


def need_line(need: Document, report: Document) -> str:
    since = f"since {clock(need['since'], report['now'])} ({duration(report['now'] - need['since'])})"
    word = "waits for you" if need["state"] == "waiting" else need["state"]
    if need["waits_for"] == "rate_limit":
        until = f" until {clock(need['until'], report['now'])}" if need["until"] else ""
        word = f"waits for the rate limit{until}"
    return f"{name_of(need)}: {word} {since}: {printable(need['reason'], 200)}"


def title_line(prd: Document) -> str:
    state = prd["state"].replace("·", ", ")
    # What claimed stories lack is said below, story by story.
    is_claimed = prd["state"] == "done·claimed" and prd["stories"]["claimed"]
    why = "" if is_claimed else "; ".join(printable(reason, 100) for reason in prd["why"][:3])
    worked = f" · worked {duration(prd['worked_ms'])}" if prd["worked_ms"] else ""
    runs = f" · {plural(prd['runs'], 'run')}" if prd["runs"] > 1 else ""
    return f"{name_of(prd)}: {state}{f': {why}' if why else ''}{worked}{runs}"


def body_lines(prd: Document) -> Iterator[str]:
    yield from _stories(prd)
    yield from _counted(prd)
    if promise := prd["promise"]:
        yield f"promised: {printable(promise, 120)}"
    if prd["cost_usd"] is not None:
        whose = "its run" if prd["runs"] == 1 else f"its {prd['runs']} runs"
        yield f"cost of {whose}: {money(prd['cost_usd'])}"


def project_lines(project: Document, report: Document) -> Iterator[str]:
    if project["sessions"]:
        count = len(project["sessions"]) + project["sessions_omitted"]
        yield f"{plural(count, 'agent')}:" if not project["sessions_omitted"] else f"{count} agents, the latest:"
    for session in project["sessions"]:
        over = session["ended_at"] or session["last_at"]
        end = clock(over, session["began_at"]) if session["state"] in ("ended", "idle") else "now"
        asked = f": {printable(session['last_prompt'], 100)}" if session["last_prompt"] else ""
        span = f"{clock(session['began_at'], report['now'])} to {end}"
        yield f"- {printable(session['agent'] or 'an agent', 20)}, {span}, {session['state']}{asked}"
    yield from _counted(project)


def _counted(prd: Document) -> Iterator[str]:
    tests = prd["tests"]
    if tests["runs"]:
        others = " in the others" if tests["passing"] else ""
        failed = f", {plural(tests['failed'], 'failure')}{others}" if tests["failed"] else ""
        yield f"{plural(tests['runs'], 'test run')}, {tests['passing']} passed{failed}"
    if prd["commits"]:
        shown = ", ".join(_commit(commit) for commit in prd["latest_commits"])
        more = prd["commits"] - len(prd["latest_commits"])
        yield f"{plural(prd['commits'], 'commit')}: {shown}" + (f", and {more} earlier" if more else "")
    yield from _waits(prd)
    if prd["errors"]:
        shown = "; ".join(printable(error["error"], 120) for error in prd["latest_errors"])
        yield f"{plural(prd['errors'], 'error')}, the last: {shown}"


def _project(document: Document) -> str:
    return printable(document["project"] or "no project", 60)


def _stories(prd: Document) -> Iterator[str]:
    stories = prd["stories"]
    states = ("verified", "claimed", "failing", "blocked", "running")
    parts = [f"{len(stories[state])} {state}" for state in states if stories[state]]
    if parts:
        total = plural(prd["total_stories"], "story") if prd["total_stories"] else "stories"
        yield f"{total}: {' · '.join(parts)}"
    for state in ("failing", "blocked", "claimed"):
        alike: dict[str, list[str]] = {}
        for story in stories[state][:5]:
            why = "; ".join(printable(reason, 100) for reason in story["why"])
            alike.setdefault(why, []).append(printable(story["story_id"], 40))
        for why, names in alike.items():
            yield f"{state}: {', '.join(names)}" + (f": {why}" if why else "")
        if len(stories[state]) > 5:
            yield f"{state}: and {len(stories[state]) - 5} more"


def _commit(commit: Document) -> str:
    subject = f" {printable(commit['subject'], 60)}" if commit["subject"] else ""
    return f"{short_hash(commit['hash'])}{subject}"


def _waits(prd: Document) -> Iterator[str]:
    if not prd["waits"]:
        return
    count = len(prd["waits"]) + prd["waits_omitted"]
    yield f"{plural(count, 'wait')}, {duration(prd['waited_ms'])}:"
    for wait in prd["waits"]:
        end = clock(wait["ended_at"], wait["since"]) if wait["ended_at"] else "now"
        whom = _WHOM.get(wait["waited_for"], "something")
        span = f"{clock(wait['since'], wait['since'])} to {end}"
        yield f"- {span} ({duration(wait['waited_ms'])}) for {whom}: {printable(wait['reason'], 120)}"


def clock(ms: int, beside: int) -> str:
    """Local time; with the date where it is not that of ``beside``."""
    local, other = (datetime.fromtimestamp(moment / 1000).astimezone() for moment in (ms, beside))
    return f"{local:%H:%M}" if local.date() == other.date() else f"{local:%Y-%m-%d %H:%M}"

"""What a message says: what a person needs at two in the morning, in one line."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from claude_loop.delivery.conditions import Condition
from claude_loop.progress.reading import line

LONGEST = 300
_REASON = 160


def sentence(condition: Condition, now_ms: int) -> str:
    """``SHOP-7 waits for you: permission Bash rm -rf build (4 min)``; ``claude in shop waits …`` without a PRD."""
    facts = condition.facts
    words = _SENTENCES[condition.kind](facts)
    since = facts["silent_since"] if condition.kind == "stalled" else condition.since
    passed = now_ms - since
    ago = "" if condition.kind == "stalled" or passed < 60_000 else f" ({how_long(passed)})"
    if condition.kind == "stalled":
        words += f" for {how_long(passed)}, last: {facts['last']}"
    return _one_line(f"{name(condition)}{words}{ago}")


def resolution(condition: Condition, now_ms: int) -> str:
    """The sentence that follows when the cause has ended."""
    words = {
        "waiting": "no longer waits",
        "rate_limited": "is no longer held by the rate limit",
        "stalled": "is no longer silent",
        "vanished": "has moved on after it vanished",
        "failed": "has moved on after it failed",
    }.get(condition.kind, "has moved on")
    reason = condition.facts.get("reason")
    said = f": {line(reason, _REASON)}" if reason else ""
    return _one_line(f"Resolved: {name(condition)} {words}{said} (after {how_long(now_ms - condition.since)})")


def title(condition: Condition, *, resolved: bool) -> str:
    project = f"{condition.project}/" if condition.project and condition.prd_id is not None else ""
    state = "resolved" if resolved else condition.kind.replace("_", " ")
    return _one_line(f"{project}{name(condition)}: {state}")


def name(condition: Condition) -> str:
    """What it is about: the PRD, or the agent that has none and where it works."""
    if condition.prd_id is not None:
        return condition.prd_id
    agent = condition.facts.get("agent") or "an agent"
    return f"{agent} in {condition.project}" if condition.project else agent


def link(base: str, condition: Condition) -> str | None:
    """The monitor's page about the PRD, or about the session; None without an address for it."""
    if not base:
        return None
    project, prd_id = condition.project, condition.prd_id
    if prd_id is not None:
        page = f"prd/{quote(prd_id, safe='')}?{urlencode({'project': project or ''})}"
    else:
        page = f"session/{quote(condition.session_id or '', safe='')}"
        page += f"?{urlencode({'project': project})}" if project else ""
    return f"{base.rstrip('/')}/{page}"


def wall_clock(ms: int) -> str:
    """``05:00`` as this machine's clock shows it."""
    return f"{datetime.fromtimestamp(ms / 1000).astimezone():%H:%M}"


def how_long(ms: int) -> str:
    """``40 s``, ``4 min``, ``3 h 20 min``."""
    seconds = max(0, ms) // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"


def _waiting(facts: dict[str, Any]) -> str:
    whom = "you" if facts.get("for") == "human" else "something"
    return f" waits for {whom}: {line(facts.get('reason'), _REASON) or 'no reason given'}"


def _limited(facts: dict[str, Any]) -> str:
    until = f" until {wall_clock(facts['until'])}" if facts.get("until") else ""
    reason = line(facts.get("reason"), _REASON)
    return f" waits for the rate limit{until}" + (f": {reason}" if reason else "")


def _failed(facts: dict[str, Any]) -> str:
    stories = f" · {_stories(facts)}" if "counts" in facts else ""  # an agent without a PRD has none
    return f" failed: {line('; '.join(facts['why']), _REASON) or 'no reason given'}{stories}"


def _done(facts: dict[str, Any]) -> str:
    proof = "verified" if facts["verified"] else f"claimed: {'; '.join(facts['why'])}"
    return f" is done, {proof} · {_stories(facts)} · took {how_long(facts['took_ms'])}"


def _stories(facts: dict[str, Any]) -> str:
    counts = facts["counts"]
    done = counts["verified"] + counts["claimed"]
    return f"{done} of {counts['stories']} stories done, {counts['verified']} verified"


def _one_line(text: str) -> str:
    clean = "".join(character if character.isprintable() else " " for character in text)
    return line(clean, LONGEST) or ""


_SENTENCES = {
    "waiting": _waiting,
    "rate_limited": _limited,
    "stalled": lambda _facts: " is silent",
    "vanished": lambda _facts: " vanished: its process is gone and it has not finished",
    "failed": _failed,
    "done": _done,
}

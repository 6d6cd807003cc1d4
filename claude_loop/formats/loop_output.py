"""What a line of a loop's output tells: an iteration begins, the work is called complete, a usage limit is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from claude_loop.formats.plain_text import plain_line
from claude_loop.formats.reset_times import find_reset
from claude_loop.json_text import read_json


@dataclass(frozen=True, slots=True)
class Banner:
    iteration: int
    max_iterations: int | None


@dataclass(frozen=True, slots=True)
class Promise:
    text: str


@dataclass(frozen=True, slots=True)
class UsageLimit:
    reason: str
    until_ms: int | None


_ANCHORS = re.compile(r"iteration|loop|<promise>|limit|quota|exhausted", re.IGNORECASE)
_LONGEST_RESULT = 256 * 1024
_LATEST_SECONDS = 1e11

# What loops draw around a banner: rules, boxes, arrows, emoji, a time of day, brackets.
_CLOCK = r"(?:\[?(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,6})?Z?\]?\s{1,3})?"
_DRAWN = "\\s=\\-#*~_>+|:.\u2500-\u259f\u25a0-\u27bf\u2b00-\u2bff\ufe0f\u200d\U0001f300-\U0001faff"
_BANNER = re.compile(
    rf"^{_CLOCK}(?P<before>[{_DRAWN}\[(]*)(?P<start>(?i:starting|begin|beginning|running)\s)?"
    rf"(?:(?i:ralph|wiggum|agent|claude|codex|story|prd|main|loop)\s)?"
    rf"(?P<word>(?i:iteration|loop))\s?[:#]?\s?(?P<number>\d{{1,6}})(?:\s?(?:of|/)\s?(?P<most>\d{{1,6}}))?"
    rf"(?:\s?\([\w .:,/-]{{1,60}}\))?(?P<after>[{_DRAWN}\])]*)$"
)
_PROMISE = re.compile(r"^(?P<before>.{0,1500}?)<promise>(?P<text>[^<>]{1,200})</promise>(?P<after>[\s.!*_`\"']*)$")

_PREFIX = r"^[\W_]{0,12}(?:(?:api |fatal )?error: ?|claude(?: code)?: |codex: |warning: )?[\W_]{0,4}"
_LIMIT = re.compile(
    rf"{_PREFIX}(?P<reason>"
    r"(?:claude (?:ai |code |pro |max )?)?"
    r"(?:(?:5-hour|five-hour|hourly|daily|weekly|monthly|opus|sonnet|fable|session|usage) ){1,3}limit "
    r"(?:has been )?(?:reached|hit|exceeded)"
    r"|(?:claude )?you(?:['\u2019]ve| have) (?:hit|reached|exceeded) your (?:[\w-]+ ){0,3}limit"
    r"|you['\u2019]re out of (?:extra )?usage|limit reached"
    r"|you have exhausted your (?:capacity|daily quota|quota)(?: on this model)?)"
    r"(?=\s*(?:$|[|.!(,;:\u00b7\u2219\u2022\u2013\u2014-]|resets?\b|until\b|for\b))",
    re.IGNORECASE,
)
_TIME_NEEDED = re.compile(r"^limit reached$", re.IGNORECASE)


def scan(line: str, now_ms: int) -> Banner | Promise | UsageLimit | None:
    """``now_ms`` dates the reset times that are given as a time of day or as a span."""
    if line.startswith("{"):
        if '"rate_limit_event"' in line:
            return _limit_event(line)
        if '"result"' in line:
            return _scan_result(line, now_ms)
    text = plain_line(line).strip()
    if not _ANCHORS.search(text):
        return None
    return _banner(text) or _promise(text) or _usage_limit(text, now_ms)


def _scan_result(line: str, now_ms: int) -> Promise | UsageLimit | None:
    """An agent run with JSON output says the same inside its result object."""
    if len(line) > _LONGEST_RESULT or not _ANCHORS.search(line):
        return None
    try:
        result = read_json(line)
    except ValueError:
        return None
    text = result.get("result") if isinstance(result, dict) and result.get("type") == "result" else None
    if not isinstance(text, str):
        return None
    for each in text.splitlines():
        plain = plain_line(each).strip()
        if found := _promise(plain) or _usage_limit(plain, now_ms):
            return found
    return None


def _limit_event(line: str) -> UsageLimit | None:
    """Claude's word about its limits, when one of them stops it; most only tell how much is used."""
    try:
        event: dict[str, Any] = read_json(line)
    except ValueError:
        return None
    info = event.get("rate_limit_info") if event.get("type") == "rate_limit_event" else None
    if not isinstance(info, dict) or info.get("status") != "rejected":
        return None
    resets_at = info.get("resetsAt")
    if isinstance(resets_at, int | float) and 1 < resets_at < _LATEST_SECONDS:
        return UsageLimit("usage limit reached", round(resets_at * 1000))
    return UsageLimit("usage limit reached", None)


def _banner(text: str) -> Banner | None:
    match = _BANNER.match(text)
    if match is None:
        return None
    number, most = int(match["number"]), int(match["most"]) if match["most"] else None
    # A bare "Iteration 3" or "Loop 3" is prose until something shows that it is meant as a heading.
    shown = bool(match["before"].strip() and match["after"].strip()) or match["before"].strip().startswith(
        ("=", "-", "#", "*", "[", ">")
    )
    if most is None and not (match["word"].lower() == "iteration" and (shown or match["start"])):
        return None
    return None if most is not None and number > most else Banner(number, most)


def _promise(text: str) -> Promise | None:
    """Alone on its line or after a whole sentence: "reply with <promise>…" is an instruction, not a promise."""
    match = _PROMISE.match(text) if "<promise>" in text else None
    if match is None:
        return None
    before = match["before"].strip().strip("*_`\"'").rstrip()
    return Promise(match["text"].strip()) if not before or before.endswith((".", "!", "\u2705")) else None


def _usage_limit(text: str, now_ms: int) -> UsageLimit | None:
    match = _LIMIT.match(text)
    if match is None:
        return None
    until = find_reset(text[match.end() :], now_ms)
    if until is None and _TIME_NEEDED.match(match["reason"]):
        return None
    return UsageLimit(text[match.start("reason") :][:200], until)

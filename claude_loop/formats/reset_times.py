"""When a limit resets, as agents say it: epoch seconds, a span, a time of day with or without date and zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Only what has one meaning; "CST" and "IST" have several, and a wrong time is worse than none.
_ZONES = {
    "utc": 0,
    "gmt": 0,
    "z": 0,
    "pst": -8,
    "pdt": -7,
    "mst": -7,
    "mdt": -6,
    "est": -5,
    "edt": -4,
    "cet": 1,
    "cest": 2,
}

_EPOCH = re.compile(r"\|\s?(\d{10}|\d{13})\b")
_SPAN = re.compile(
    r"\b(?:in|after)\s((?:\d{1,4}\s?(?:days?|d|hours?|hrs?|hr|h|minutes?|mins?|min|m|seconds?|secs?|sec|s)\b[,\s]{0,2}(?:and\s)?){1,4}"
    r"|(?:\d{1,4}[dhms]){1,4})",
    re.IGNORECASE,
)
_PIECE = re.compile(r"(\d{1,4})\s?([dhms])", re.IGNORECASE)
_SCALE = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}

# No limit lasts longer: what lies farther ahead is something else, or beyond the calendar.
_FARTHEST_MS = 366 * 86_400_000

_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d{1,9})?)?\s?(Z|[+-]\d\d:?\d\d)?")
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_WHEN = re.compile(
    r"\b(?:resets?|again|available|until|reset)\b:?\s(?:on\s|at\s)?"
    r"(?:(?P<tomorrow>tomorrow)[,\s]{1,2}|(?P<weekday>mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}[,\s]{1,2})?"
    rf"(?:{_MONTH}\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s(?P<year>\d{{4}}))?[,\s]{{1,2}})?"
    r"(?:at\s)?(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?::\d\d)?\s?(?P<half>[ap]\.?m\b\.?)?"
    r"(?:\s?\((?P<place>[A-Za-z0-9_+/-]{1,40})\)|\s(?P<zone>UTC|GMT|[PMEC][SD]T|CEST|CET)\b)?",
    re.IGNORECASE,
)


def find_reset(text: str, now_ms: int) -> int | None:
    """Milliseconds since 1970, or None where nothing certain is said."""
    moment = _said(text[:500], now_ms)
    return moment if moment is not None and 0 <= moment <= now_ms + _FARTHEST_MS else None


def _said(text: str, now_ms: int) -> int | None:
    if epoch := _EPOCH.search(text):
        return int(epoch[1]) * (1000 if len(epoch[1]) == 10 else 1)
    if span := _SPAN.search(text):
        return now_ms + sum(int(number) * _SCALE[unit.lower()] for number, unit in _PIECE.findall(span[1]))
    try:
        return _iso(text) or _wall_clock(text, now_ms)
    except (ValueError, OverflowError, OSError):
        return None  # 31 February, 25:00, a year beyond the calendar


def _iso(text: str) -> int | None:
    match = _ISO.search(text)
    if match is None:
        return None
    return _epoch_ms(datetime.fromisoformat(f"{match[1]}T{match[2]}:00{(match[3] or '').upper()}"))


def _wall_clock(text: str, now_ms: int) -> int | None:
    match = _WHEN.search(text)
    if match is None or not (match["half"] or match["minute"]):
        return None
    try:
        zone = _zone(match["place"] or match["zone"])
    except LookupError:
        return None
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).replace(tzinfo=zone)
    moment = now.replace(hour=_hour(match), minute=int(match["minute"] or 0), second=0, microsecond=0, fold=0)
    return _epoch_ms(_dated(match, moment, now))


def _hour(match: re.Match[str]) -> int:
    hour, half = int(match["hour"]), (match["half"] or "").lower()
    if not half:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError("no such hour on a twelve-hour clock")
    return hour % 12 + (12 if half.startswith("p") else 0)


def _dated(match: re.Match[str], moment: datetime, now: datetime) -> datetime:
    """The next moment that fits what is said; a date without year may also be some days ago."""
    if match["tomorrow"]:
        return moment + timedelta(days=1)
    if match["month"]:
        month = _MONTHS.index(match["month"].lower()) + 1
        moment = moment.replace(month=month, day=int(match["day"]), year=int(match["year"] or now.year))
        late = not match["year"] and moment < now - timedelta(days=60)
        return moment.replace(year=moment.year + 1) if late else moment
    if match["weekday"]:
        moment += timedelta(days=(_DAYS.index(match["weekday"].lower()) - moment.weekday()) % 7)
        return moment if moment > now else moment + timedelta(days=7)
    return moment if moment > now else moment + timedelta(days=1)


def _zone(said: str | None) -> tzinfo | None:
    """None is the machine's own zone: agents say local times without naming it."""
    if said is None:
        return None
    if said.lower() in _ZONES:
        return timezone(timedelta(hours=_ZONES[said.lower()]))
    try:
        return ZoneInfo(said)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise LookupError(said) from error


def _epoch_ms(moment: datetime) -> int:
    """A moment without a zone is one of the machine's own."""
    return int(moment.timestamp() * 1000)

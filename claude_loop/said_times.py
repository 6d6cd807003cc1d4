"""A moment as a person writes it: so long ago, a time of day, a date, or seconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from claude_loop.clock import parse_time

_AGE = re.compile(r"(\d{1,9})([smhdw])\Z", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,13}(\.\d+)?\Z", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def moment_said(text: str, now: datetime) -> datetime | None:
    """The moment, or None for what is none. ``now`` is local, and so is a time without an offset.

    An age that reaches beyond the epoch begins there.
    """
    length = seconds_said(text)
    if length is not None:
        return datetime.fromtimestamp(max(0.0, now.timestamp() - length), UTC).astimezone(now.tzinfo)
    return time_of_day(text, now) or date_and_time(text) or _since_the_epoch(text)


def seconds_said(text: str) -> int | None:
    """`10m`, `8h`, `1d` in seconds."""
    found = _AGE.match(text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def time_of_day(text: str, now: datetime) -> datetime | None:
    """The last time the clock showed it."""
    match = _TIME_OF_DAY.match(text)
    if match is None:
        return None
    try:
        moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3] or 0), microsecond=0)
    except ValueError:
        return None
    return moment if moment <= now else moment - timedelta(days=1)


def date_and_time(text: str) -> datetime | None:
    if _DATE.match(text) is None:
        return None  # `fromisoformat` takes much else
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def _since_the_epoch(text: str) -> datetime | None:
    if _NUMBER.match(text) is None:
        return None
    return datetime.fromtimestamp(parse_time(float(text)) / 1e6, UTC).astimezone()

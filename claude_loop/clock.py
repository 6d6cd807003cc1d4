"""The seam for time and randomness, so that tests need neither sleep nor luck."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from functools import lru_cache
from typing import Protocol

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")
_YEAR_10000_US = 253_402_300_800_000_000
LATEST_MS = _YEAR_10000_US // 1000 - 1


class Clock(Protocol):
    def now_us(self) -> int:
        """Wall clock, microseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds, never going back."""

    def random_bytes(self, n: int) -> bytes:
        """``n`` unpredictable bytes."""


class SystemClock:
    """The real clock and the operating system's randomness."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def random_bytes(self, n: int) -> bytes:
        return os.urandom(n)


class ManualClock:
    """A clock that moves only when told to; for tests and replay."""

    def __init__(self, now_us: int = 1_769_428_800_000_000) -> None:
        self._now_us = now_us
        self._monotonic = 0.0
        self._drawn = 0

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._monotonic

    def random_bytes(self, n: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(n, "big")

    def advance(self, seconds: float) -> None:
        """Move wall clock and monotonic clock forward together."""
        self._now_us += round(seconds * 1_000_000)
        self._monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Move the wall clock alone, backwards too, as NTP or a suspended laptop does."""
        self._now_us += round(seconds * 1_000_000)


def until_tick(now: float, every: float) -> float:
    """Seconds until the next multiple of ``every`` on a clock that shows ``now``: who looks again and again does so
    when all the others do, and an idle machine is woken once for all of them."""
    pause = every - now % every
    # A timer that is early by its own coarseness is not to ring twice.
    return pause if pause > every / 10 else pause + every


@lru_cache(maxsize=256)
def _whole_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=1024)  # the events of one batch share their time of receipt, and often happened in few milliseconds
def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC: ``2026-01-26T12:00:00.000Z``."""
    seconds, millis = divmod(ms, 1000)
    return f"{_whole_second(seconds)}.{millis:03d}Z"


def parse_time(value: str | float) -> int:
    """RFC 3339 text, or a number of seconds since the epoch, as microseconds since the epoch.

    Numbers from 10¹¹ up are milliseconds: as seconds they would lie beyond the year 5000.
    A time without offset is UTC. Raises ``ValueError`` for anything else, and for years outside 1970 to 9999.
    """
    if isinstance(value, bool):
        raise ValueError("a boolean is not a time")
    if isinstance(value, int | float):
        if value < 0:  # one that rounds to zero too
            raise ValueError("a time before 1970")
        us = round(value * 1000) if value >= 1e11 else round(value * 1_000_000)
    else:
        # fromisoformat alone would also take dates without a time, and week dates.
        if _RFC3339.match(value) is None:
            raise ValueError("not an RFC 3339 time")
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        us = (moment - _EPOCH) // _MICROSECOND
    if not 0 <= us < _YEAR_10000_US:
        raise ValueError("a time outside the years 1970 to 9999")
    return us


def parse_hours(text: str) -> tuple[time_of_day, time_of_day] | None:
    """Begin and end; None where there are no quiet hours. Raises ``ValueError``."""
    if not text:
        return None
    found = _HOURS.match(text)
    if found is None:
        raise ValueError("quiet hours are written like 22:00-07:00")
    begin, end = time_of_day(int(found[1]), int(found[2])), time_of_day(int(found[3]), int(found[4]))
    if begin == end:
        raise ValueError("quiet hours that begin when they end say nothing")
    return begin, end

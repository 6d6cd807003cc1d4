"""Quiet hours: ``22:00-07:00`` by the clock on this machine's wall, across midnight and changes of that clock."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta


def quiet_until(hours: tuple[time, time] | None, now_ms: int) -> int | None:
    """When the quiet hours that it is now in end, in milliseconds; None while it is not quiet."""
    if hours is None:
        return None
    begin, end = hours
    local = datetime.fromtimestamp(now_ms / 1000)  # noqa: DTZ006 - the clock on the wall is meant
    clock = local.time()
    quiet = begin <= clock < end if begin < end else clock >= begin or clock < end
    if not quiet:
        return None
    day = local.date() if clock < end else local.date() + timedelta(days=1)
    return _moment(day, end, now_ms)


def _moment(day: date, at: time, after_ms: int) -> int:
    """When the clock first shows ``at`` on ``day`` later than ``after_ms``: an hour may be shown twice, or never."""
    shown = datetime.combine(day, at)
    moments = [round(shown.replace(fold=fold).timestamp() * 1000) for fold in (0, 1)]
    return min((moment for moment in moments if moment > after_ms), default=after_ms + 60_000)

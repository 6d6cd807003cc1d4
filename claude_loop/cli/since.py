"""Where `tail` begins: what a person writes after ``--since`` and ``-n``, as the server takes it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import click

from claude_loop.client import DaemonClient
from claude_loop.clock import parse_time, rfc3339
from claude_loop.errors import InvalidCursor
from claude_loop.ids import Cursor
from claude_loop.said_times import date_and_time, moment_said, seconds_said, time_of_day

_NUMBER = re.compile(r"\d{1,13}(\.\d+)?\Z")
# One page of the log; beyond it a person counts no lines.
_PAGE = 1000
Start = dict[str, str]


def since(text: str, now: datetime) -> Start:
    """From an age, a time, a cursor or a word. ``now`` is local: times without an offset are, as `tail` shows them.

    Raises ``click.BadParameter``.
    """
    if text in ("start", "now"):
        return {"from": text}
    age = seconds_said(text)
    if age is not None:
        return _from_time(now.timestamp() - age)
    if _NUMBER.match(text):
        return _from_time(parse_time(float(text)) / 1e6)
    try:
        return {"from": str(Cursor.parse(text))}
    except InvalidCursor:
        moment = time_of_day(text, now) or date_and_time(text)
    if moment is None:
        raise click.BadParameter(
            f"“{text}” is none of: an age (10m, 2h, 1d), a time (22:14, 2026-01-26T22:14:00), a cursor, start, now.",
            param_hint="--since",
        )
    return _from_time(moment.timestamp())


def moment(text: str, now: datetime, option: str) -> datetime:
    """A moment from an age, a time or seconds since the epoch. Raises ``click.BadParameter``."""
    found = moment_said(text, now)
    if found is None:
        raise click.BadParameter(
            f"“{text}” is none of: an age (10m, 8h, 1d), a time (22:00, 2026-01-26T22:00:00).", param_hint=option
        )
    return found


def later(text: str, now: datetime, option: str) -> datetime:
    """A moment to come: so long from ``now``, or a date with a time. Raises ``click.BadParameter``."""
    age = seconds_said(text)
    try:
        found = date_and_time(text) if age is None else now + timedelta(seconds=age)
    except OverflowError:
        found = None
    if found is None:
        raise click.BadParameter(
            f"“{text}” is neither a time from now (12h, 30d) nor a date (2026-12-31T00:00).", param_hint=option
        )
    if found <= now:
        raise click.BadParameter(f"“{text}” is past.", param_hint=option)
    return found


def _from_time(seconds: float) -> Start:
    # As text: a number far ahead would be taken for milliseconds.
    return {"from": json.dumps({"since": rfc3339(max(0, round(seconds * 1000)))})}


def before_last(client: DaemonClient, query: dict[str, Any], count: int, hidden: frozenset[str]) -> Start:
    """Before the last ``count`` events of which none has a type of ``hidden``."""
    wanted = count
    while hidden and 0 < wanted <= _PAGE:
        page = client.get("/api/events", query | {"order": "desc", "limit": wanted})
        visible = sum(event["type"] not in hidden for event in page["events"])
        if not page["more"]:
            break
        if visible >= count or len(page["events"]) < wanted:
            return {"from": page["cursor"]}
        wanted += count - visible
    return {"from": json.dumps({"last": wanted})}

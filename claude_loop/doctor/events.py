"""What is in the log and counts for nothing: events that lack what their type needs, or have it wrong."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_loop.client import DaemonClient
from claude_loop.clock import parse_time
from claude_loop.doctor.finding import Finding, ok, warning
from claude_loop.doctor.scene import ANSWER_SECONDS, Scene
from claude_loop.errors import ClaudeLoopError

# The daemon looks through half a million events in this time, newest first; what is older matters less and less.
LOOK_SECONDS = 1.0
# Whoever sent such events before that has mended the script, or sends none.
RECENT_DAYS = 7
# Of more of one type only the newest is shown.
_MOST_SHOWN = 20
_MOST_TYPES = 5
_MARK = "_invalid"
_DAY_US = 86_400_000_000
# The daemon's reasons name what is wrong so. They may quote a value, too, which is nobody's business here.
_NAMED = re.compile(r"`([A-Za-z_][\w.]{0,60})`")


@dataclass(slots=True)
class _Marked:
    """Those of one type. ``last`` is the newest, ``first`` the oldest."""

    last: Mapping[str, Any]
    first: Mapping[str, Any]
    count: int = 0
    fields: Counter[str] = field(default_factory=Counter)


def invalid(scene: Scene) -> Iterator[Finding]:
    """Only a daemon that runs is asked: the log is not opened from here."""
    status = scene.daemon.status
    if status is None:
        return
    try:
        marked, looked = _look(scene, int((status.get("log") or {}).get("head", 0)))
    except ClaudeLoopError as failure:
        yield warning(f"The log could not be looked through: {failure.message}", "claude-loop status")
        return
    edge = scene.clock.now_us() - RECENT_DAYS * _DAY_US
    recent = {type_: one for type_, one in marked.items() if parse_time(one.last["received_at"]) >= edge}
    for type_ in sorted(recent, key=lambda name: -recent[name].count)[:_MOST_TYPES]:
        yield _finding(type_, recent[type_], looked)
    if len(recent) > _MOST_TYPES:
        more = f"So are events of other types, {len(recent) - _MOST_TYPES} more."
        yield warning(more, _show("*", list(recent.values())[-1].last))
    if not recent:
        yield ok(f"No event{looked} lacked in the last {RECENT_DAYS} days what its type needs.")


def _finding(type_: str, marked: _Marked, looked: str) -> Finding:
    named = ", ".join(f"`{name}`" for name, _ in marked.fields.most_common(4)) or "what its type needs"
    when = f"{str(marked.last['received_at'])[:16].replace('T', ' ')} UTC from {marked.last['source']}"
    if marked.count == 1:
        begins = f"1 event of type {type_}{looked} is marked `{_MARK}` and proves nothing"
    else:
        begins = f"{marked.count} events of type {type_}{looked} are marked `{_MARK}` and prove nothing"
    said = f"{begins}: {named} missing or wrong. The last came {when}; docs/events.md has what is needed."
    return warning(said, _show(type_, marked.first if marked.count <= _MOST_SHOWN else marked.last))


def _show(type_: str, from_: Mapping[str, Any]) -> str:
    """The command that prints them from this one on; what mends it is up to the script that sent it."""
    tail = f"claude-loop tail --type {shlex.quote(type_)} --since {from_['received_at']} --no-follow"
    return f"{tail} | grep 'not valid'"


def _look(scene: Scene, head: int) -> tuple[dict[str, _Marked], str]:
    """What is marked, by type, and words for how far was looked where that was not to the log's beginning."""
    client = DaemonClient(scene.home)
    query: dict[str, Any] = {"q": _MARK, "order": "desc", "limit": 1000}
    marked: dict[str, _Marked] = {}
    deadline = scene.clock.monotonic() + LOOK_SECONDS
    while True:
        page = client.get("/api/events", query, timeout=ANSWER_SECONDS)
        for event in page["events"]:
            _note(marked, event)
        query["before"] = page["cursor"]
        if not page["more"]:
            return marked, ""
        if scene.clock.monotonic() >= deadline:
            return marked, _how_far(client, page["cursor"], head)


def _note(marked: dict[str, _Marked], event: Mapping[str, Any]) -> None:
    reasons = event["data"].get(_MARK)
    if not isinstance(reasons, list):
        return  # its text only speaks of the mark
    one = marked.setdefault(event["type"], _Marked(event, event))
    one.first = event
    one.count += 1
    named = {name for reason in reasons for name in _NAMED.findall(str(reason))}
    one.fields.update({name.removeprefix("data.") for name in named})


def _how_far(client: DaemonClient, cursor: str, head: int) -> str:
    beyond = client.get("/api/events", {"before": cursor, "order": "desc", "limit": 1}, timeout=ANSWER_SECONDS)
    if not beyond["events"]:
        return ""
    return f" among the newest {head - beyond['events'][0]['seq']:,}"


CHECKS = {"events.invalid": invalid}

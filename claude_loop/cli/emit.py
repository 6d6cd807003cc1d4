"""`emit`: one event from the command line, through the spool."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import click

from claude_loop.cli.terminal import note
from claude_loop.context import silenced
from claude_loop.id_rules import ID_PATTERN, MAX_TYPE_LENGTH, TYPE_PATTERN
from claude_loop.payloads import RESERVED, misread, missing, nearest
from claude_loop.spool_writer import SpoolWriter

PATIENCE_SECONDS = 5.0
# As `emit_event` of the bash library sets them; here they are options.
_IDS = {"prd": "prd_id", "story": "story_id", "run": "run_id", "session": "session_id", "project": "project"}
# As HTTP names them. A story's stands in the data too.
_IDS |= {"prd_id": "prd_id", "run_id": "run_id", "session_id": "session_id"}


@click.command()
@click.argument("type_", metavar="TYPE")
@click.argument("fields", nargs=-1, metavar="[KEY=VALUE | KEY:=JSON]...")
@click.option("--prd", "prd_id", metavar="PRD", help="[default: $CLAUDE_LOOP_PRD]")
@click.option("--story", "story_id", metavar="STORY", help="[default: $CLAUDE_LOOP_STORY]")
@click.option("--run", "run_id", metavar="RUN", help="[default: $CLAUDE_LOOP_RUN]")
@click.option("--session", "session_id", metavar="SESSION", help="[default: $CLAUDE_LOOP_SESSION]")
@click.option("--project", metavar="PROJECT", help="[default: $CLAUDE_LOOP_PROJECT, or the name of the repository]")
@click.option("--wait", is_flag=True, help="Wait until it is committed; status 1 if that takes over 5 seconds.")
@click.option("--quiet", is_flag=True, help="Say nothing of missing fields and unusual types.")
def emit(type_: str, fields: tuple[str, ...], wait: bool, quiet: bool, **ids: str | None) -> None:  # noqa: FBT001 - click's way
    """Emit one event of TYPE, such as story.started.

    KEY=VALUE adds a text to its data, KEY:=JSON a number, a boolean or anything else. Works with the daemon down: the
    event waits in the spool. With CLAUDE_LOOP_URL it is sent there instead.
    """
    if len(type_) > MAX_TYPE_LENGTH or re.match(TYPE_PATTERN, type_) is None:
        raise click.UsageError(f"“{type_}” is not a type: dotted lower case, such as story.started.")
    data = dict(_field(field) for field in fields)
    story = ids["story_id"] or os.environ.get("CLAUDE_LOOP_STORY")
    if os.environ.get("CLAUDE_LOOP_URL"):
        _post(type_, data, ids)
        doubts: Iterable[str] = ()  # it would have been refused
    else:
        _spool(type_, data, ids, wait=wait)
        doubts = _doubts(type_, data, story)
    if not quiet and not silenced():
        misplaced = [key for key, name in _IDS.items() if key in data and ids[name] is None]
        for doubt in (*doubts, *_unfit(ids), *_misplaced(misplaced)):
            _tell(f"claude-loop: {doubt}")


def _doubts(type_: str, data: dict[str, Any], story: str | None) -> Iterator[str]:
    """The daemon keeps the event as it is, but whoever waits for it to count should know."""
    lacking, odd = missing(type_, data, story), misread(type_, data)
    if lacking:
        named = ", ".join("`story_id` (--story)" if field == "story_id" else f"`{field}`" for field in lacking)
        yield f"{type_} lacks {named}: emitted, and stored marked `_invalid`."
    elif odd:
        named = ", ".join(f"`{field}` {json.dumps(data[field])[:40]}" for field in odd)
        yield f"{type_} cannot have {named}: emitted, and stored marked `_invalid`."
    elif type_ in RESERVED:
        asked = "which `claude-loop archive` and `claude-loop forget` ask to"
        yield f"{type_} is said by the daemon alone, {asked}: emitted, and stored marked `_invalid`."
    elif near := nearest(type_):
        yield f"{type_} is none of the known types; did you mean {near}? Emitted as it is."


def _unfit(ids: dict[str, str | None]) -> Iterator[str]:
    for name, value in ids.items():
        if value and not re.match(ID_PATTERN, value):
            given = f"--{name.removesuffix('_id')} {value[:40]!r}"
            yield f"{given} is no id of 1 to 128 printable characters: emitted, and stored without it."


def _misplaced(keys: list[str]) -> Iterator[str]:
    for key in keys:
        yield f"`{key}` went into the event's data; --{key.removesuffix('_id')} says whose event it is."


def _tell(words: str) -> None:
    if sys.stderr is not None:
        try:
            note(words)
        except OSError:  # emitting never fails its caller
            sys.stderr = None  # else the interpreter tries once more as it ends, and fails


def _field(field: str) -> tuple[str, Any]:
    key, separator, value = field.partition("=")
    if not separator or not key.rstrip(":"):
        raise click.UsageError(f"“{field}” is neither KEY=VALUE nor KEY:=JSON.")
    if not key.endswith(":"):
        return key, value
    try:
        return key[:-1], json.loads(value, parse_constant=_no_constant, parse_float=_finite)
    except ValueError:
        raise click.UsageError(f"“{value}” (for {key[:-1]}) is not JSON.") from None


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _no_constant(number)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _spool(type_: str, data: dict[str, Any], ids: dict[str, str | None], *, wait: bool) -> None:
    writer = SpoolWriter(source="cli")
    try:
        writer.emit(type_, data, **ids)
        committed = not wait or writer.flush(PATIENCE_SECONDS)
    except OSError as failure:
        # Emitting never fails its caller; only one who waits wants to hear of it.
        if wait:
            note(f"claude-loop: the event could not be spooled: {failure}.")
            sys.exit(1)
        return
    if not committed:
        note(f"claude-loop: spooled, but not committed within {PATIENCE_SECONDS:.0f} seconds. Does the daemon run?")
        note("  `claude-loop up` starts it, `claude-loop status` tells. The event is kept, and committed once it does.")
        sys.exit(1)


def _post(type_: str, data: dict[str, Any], ids: dict[str, str | None]) -> None:
    from claude_loop.client import DaemonClient
    from claude_loop.clock import SystemClock
    from claude_loop.context import inherited
    from claude_loop.ids import new_event_id

    if silenced():
        return
    given = {key: value for key, value in ids.items() if value is not None}
    context = {key: value for key, value in inherited().items() if value is not None}
    event = {"id": new_event_id(SystemClock()), "type": type_, "source": "cli", **context, **given, "data": data}
    DaemonClient.from_environment().post("/api/events", event)

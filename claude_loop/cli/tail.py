"""`tail`: events as they happen, across restarts of the daemon, without gap or repeat."""

from __future__ import annotations

import os
import re
import select
import stat
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import click

from claude_loop.cli.follow import follow, stored
from claude_loop.cli.named import filter_of, known_types, proposed
from claude_loop.cli.printer import HIDDEN, Printer
from claude_loop.cli.read_model import ReadModel
from claude_loop.cli.since import before_last, since
from claude_loop.cli.terminal import note, write_json_to
from claude_loop.client import DaemonClient
from claude_loop.id_rules import TYPE_PATTERN
from claude_loop.launch import ensure_running
from claude_loop.paths import Home
from claude_loop.payloads import nearest


@click.command()
@click.option("--prd", "prds", multiple=True, metavar="PRD", shell_complete=proposed, help="Only this PRD; repeatable.")
@click.option("--project", metavar="PROJECT", help="Only this project.")
@click.option("--story", metavar="STORY", help="Only this story.")
@click.option("--run", metavar="ID", help="Only this run, by its id.")
@click.option("--session", metavar="ID", help="Only this agent's session.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="GLOB",
    shell_complete=known_types,
    help="Only these types, such as test.*; repeatable.",
)
@click.option("--since", "begin", metavar="10m|TIME|CURSOR|start", help="Begin there instead of at the last events.")
@click.option(
    "-n",
    "last",
    type=click.IntRange(0, 100_000),
    default=20,
    metavar="N",
    help="How many past events, without --since. [default: 20]",
)
@click.option("--follow/--no-follow", default=True, help="Go on as events arrive, or end at the last one stored.")
@click.option(
    "--until",
    metavar="TYPE",
    shell_complete=known_types,
    help="End after the first event of this type; status 1 if it tells of failure.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, times in UTC.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Append to this file instead.")
@click.option("--quiet", is_flag=True, help="Show nothing but errors: to wait with --until, or to fill --output.")
def tail(**options: Any) -> None:
    """Show the last events, then follow, across restarts of the daemon too: local times, one line each.

    Ends with Ctrl-C, or as --until says.
    """
    client = DaemonClient.from_environment()
    start = None
    if options["begin"] is not None:
        start = since(options["begin"], datetime.now().astimezone())
    if ensure_running(Home.from_environment(), client, note) and not options["quiet"]:
        note("-- daemon started --")
    query = _query(client, options)
    if not options["quiet"]:
        _warn_of_nothing(client, query, options)
    if start is None:
        start = before_last(client, query, options["last"], _hidden(options))
    with _output(options) as stream:
        printer = Printer(
            ReadModel(client),
            stream,
            as_json=options["as_json"],
            quiet=options["quiet"],
            everything=bool(options["types"]),
        )
        _show(client, query, start, printer, options)


def _query(client: DaemonClient, options: dict[str, Any]) -> dict[str, Any]:
    # What `--until` waits for must not be filtered out.
    until = (options["until"],) if options["until"] and options["types"] else ()
    return {
        **filter_of(client, options["prds"], options["project"]),
        "story_id": options["story"],
        "run_id": options["run"],
        "session_id": options["session"],
        "type": options["types"] + until,
    }


def _warn_of_nothing(client: DaemonClient, query: dict[str, Any], options: dict[str, Any]) -> None:
    """Say that a filter lets nothing through that is stored: it may be misspelt, and silence looks like peace."""
    if not any(query.values()) or client.get("/api/events", query | {"limit": 1})["events"]:
        return
    meant = next(filter(None, map(_meant, options["types"])), "")
    if not meant and (options["prds"] or options["project"]):
        meant = "; `claude-loop prds` lists the PRDs there are"
    waits = "; waiting for the first event that does" if options["follow"] else ""
    note(f"-- nothing stored so far matches{waits}{meant} --")


def _meant(type_: str) -> str:
    if near := nearest(type_):
        return f"; did you mean --type {near}?"
    is_beginning = "." not in type_ and re.match(TYPE_PATTERN, type_)
    return f"; did you mean --type '{type_}.*'?" if is_beginning else ""


def _hidden(options: dict[str, Any]) -> frozenset[str]:
    return frozenset() if options["as_json"] or options["types"] else HIDDEN


def _show(client: DaemonClient, query: dict[str, Any], start: dict[str, str], printer: Printer, options: Any) -> None:
    read = follow if options["follow"] else stored
    for event_json in read(client, query, start, printer):
        event = printer.show(event_json)
        if options["until"] and fnmatchcase(event["type"], options["until"]):
            sys.exit(1 if tells_of_failure(event) else 0)
    if options["until"]:
        printer.word(f"no {options['until']} among the events stored")
        sys.exit(1)


def tells_of_failure(event: dict[str, Any]) -> bool:
    """Whether what ``event`` reports went wrong."""
    type_, data = event["type"], event["data"]
    if data.get("success") is False or data.get("status") == "failed":
        return True
    if type_ in {"test.run", "run.completed"}:
        return bool(data.get("failed") or data.get("exit_code"))
    return type_ in {"error.occurred", "system.run_vanished"}


def _output(options: dict[str, Any]) -> AbstractContextManager[IO[str] | None]:
    path: Path | None = options["output"]
    if path is not None:
        try:
            return path.open("a", encoding="utf-8", errors="replace")
        except OSError as failure:
            raise click.FileError(str(path), failure.strerror) from None
    if options["quiet"]:
        return nullcontext()
    if options["as_json"]:
        write_json_to(sys.stdout)
    _end_with_reader(sys.stdout)
    return nullcontext(sys.stdout)


def _end_with_reader(stream: IO[str]) -> None:
    """End when whoever reads our output through a pipe has gone, also while there is nothing to write to it."""
    try:
        descriptor = stream.fileno()
        if sys.platform != "linux" or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return
    except OSError:
        return

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # an error alone: the other end was closed
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="reader of our output", daemon=True).start()

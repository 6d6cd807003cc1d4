"""`export`: stored events as JSON lines or a table, or one PRD as a page that replays it."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from claude_loop.cli.named import filter_of, proposed
from claude_loop.cli.new_file import NewFile
from claude_loop.cli.terminal import harmless_json, note, plural, write_json_to
from claude_loop.client import DaemonClient
from claude_loop.errors import NotFound
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

Event = dict[str, Any]
COLUMNS = (
    "seq", "id", "type", "project", "prd_id", "story_id", "run_id", "session_id", "source", "timestamp", "received_at",
    "data",
)  # fmt: skip
_PAGE = 1000
# A spreadsheet takes a cell that begins so for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command()
@click.option("--prd", metavar="PRD", shell_complete=proposed, help="Only this PRD.")
@click.option("--project", metavar="PROJECT", help="Only this project.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "html"]),
    default="jsonl",
    show_default=True,
    help="Events, one JSON object or one row each; or a page that replays the PRD.",
)
@click.option("--output", type=NewFile(), help="Write this file instead of stdout.")
def export(prd: str | None, project: str | None, form: str, output: Path | None) -> None:
    """Export what is stored, with the secrets left out that were left out when it was stored."""
    if form == "html" and prd is None:
        raise click.UsageError("--format html is the replay of one PRD: say which with --prd.")
    if form == "html" and output is None and sys.stdout.isatty():
        raise click.UsageError("A page is nothing for a terminal: say where with --output FILE.")
    from claude_loop.cli.replay_file import replay_page, template

    page = template() if form == "html" else ""  # before anything is started or asked
    client = DaemonClient.from_environment()
    ensure_running(Home.from_environment(), client, note)
    with _output(output) as stream:
        if form == "html":
            stream.write(replay_page(client, page, prd or "", project))
            count = None
        else:
            query = filter_of(client, [] if prd is None else [prd], project)
            count = (write_csv if form == "csv" else write_jsonl)(stored_events(client, query), stream)
        if count == 0 and (prd or project):
            hint = "`claude-loop prds` lists those there are."
            raise NotFound("No event stored is of that PRD or project.", hint=hint)
    if output is not None:
        note(f"Wrote {output}." if count is None else f"Wrote {plural(count, 'event')} to {output}.")


def stored_events(client: DaemonClient, query: dict[str, Any], end: str | None = None) -> Iterator[Event]:
    """The events up to the cursor ``end``, or to the end of the log as it is now, oldest first."""
    end = end or client.get("/status")["log"]["cursor"]
    place: str | None = None
    while True:
        page = client.get("/api/events", query | {"after": place, "before": end, "limit": _PAGE})
        if place is not None and "reset" in page:
            note("-- events were pruned while they were being exported: some are missing --")
        yield from page["events"]
        if not page["more"]:
            return
        place = page["cursor"]


def write_jsonl(events: Iterable[Event], stream: IO[str]) -> int:
    count = 0
    for count, event in enumerate(events, start=1):  # noqa: B007 - it is what is returned
        stream.write(harmless_json(json.dumps(event, ensure_ascii=False, separators=(",", ":"))) + "\n")
    return count


def write_csv(events: Iterable[Event], stream: IO[str]) -> int:
    """RFC 4180, with a line of names; ``data`` is JSON. A text that a spreadsheet would run gets a ``'`` before it."""
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    count = 0
    for count, event in enumerate(events, start=1):  # noqa: B007 - it is what is returned
        writer.writerow([_cell(event[name]) for name in COLUMNS])
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return harmless_json(json.dumps(value, ensure_ascii=False))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    """Where to write. A file appears when it is complete: what stood there before stays until then."""
    if path is None:
        write_json_to(sys.stdout)
        yield sys.stdout
        sys.stdout.flush()
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as stream:  # through no link that somebody put there
            yield stream
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

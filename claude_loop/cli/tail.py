"""`tail`: events as they happen, across restarts of the daemon, without gap or repeat."""

from __future__ import annotations

import json
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import click

from claude_loop.cli.follow import follow, stored
from claude_loop.cli.printer import Printer
from claude_loop.cli.terminal import note
from claude_loop.client import DaemonClient
from claude_loop.clock import SystemClock, parse_time
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

_RELATIVE = re.compile(r"(\d+)([smhd])\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@click.option("--prd", "prds", multiple=True, metavar="PRD", help="Only this PRD; may be repeated.")
@click.option("--project", metavar="PROJECT")
@click.option("--story", metavar="STORY")
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Only these types; may be repeated.")
@click.option("--since", metavar="10m|TIME|CURSOR|start", help="Begin there instead of at the last events.")
@click.option("-n", "last", type=click.IntRange(0, 100_000), help="How many past events to show first. [default: 20]")
@click.option("--follow/--no-follow", default=True, help="Go on as events arrive.")
@click.option(
    "--until", metavar="TYPE", help="End after the first event of this type; status 1 if it tells of failure."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, times in UTC.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Append to this file.")
@click.option("--quiet", is_flag=True, help="Show errors only; with --until, wait in silence.")
def tail(**options: Any) -> None:
    """Show the last events, then follow: local times, one line each."""
    client = DaemonClient.from_environment()
    quiet = options["quiet"]
    if ensure_running(Home.from_environment(), client) and not quiet:
        note("-- daemon started --")
    query = {
        "prd_id": options["prds"],
        "project": options["project"],
        "story_id": options["story"],
        "type": options["types"],
    }
    with _output(options["output"]) as stream:
        printer = Printer(client, stream, as_json=options["as_json"], quiet=quiet)
        start = _start(options["since"], options["last"])
        reader = follow if options["follow"] else stored
        for event_json in reader(client, query, start, printer):
            event = printer.show(event_json)
            if options["until"] and fnmatchcase(event["type"], options["until"]):
                sys.exit(1 if event["data"].get("success") is False else 0)


def _output(path: Path | None) -> AbstractContextManager[IO[str]]:
    return nullcontext(sys.stdout) if path is None else path.open("a", encoding="utf-8")


def _start(since: str | None, last: int | None) -> dict[str, str]:
    if since is None:
        return {"from": json.dumps({"last": 20 if last is None else last})}
    relative = _RELATIVE.match(since)
    if relative is not None:
        ago = int(relative[1]) * _UNITS[relative[2]]
        return {"from": json.dumps({"since": SystemClock().now_us() / 1e6 - ago})}
    try:
        return {"from": json.dumps({"since": parse_time(since) / 1e6})}
    except (ValueError, OverflowError):
        return {"from": since}  # "start" or a cursor; the daemon says if it is neither

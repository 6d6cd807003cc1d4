"""`report`: what happened overnight, what needs a person first."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from claude_loop.cli.report_text import as_markdown, as_text
from claude_loop.cli.since import moment
from claude_loop.cli.terminal import note, put, put_json
from claude_loop.clock import rfc3339


@click.command()
@click.option("--since", "since_", metavar="TIME", help="Where it begins: 22:00, 8h, a date and time. [default: 12h]")
@click.option("--until", metavar="TIME", help="Where it ends. [default: now]")
@click.option("--project", metavar="J", help="Only this project.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "md", "html", "json"]),
    default="text",
    help="What to write. [default: text]",
)
def report(since_: str | None, until: str | None, project: str | None, format_: str) -> None:
    """Say what happened since a time, for each PRD and without one, and what needs a person now.

    A time of day, such as 22:00, is the last time the clock showed it.
    """
    from claude_loop.client import DaemonClient
    from claude_loop.launch import ensure_running
    from claude_loop.paths import Home

    now = datetime.now().astimezone()
    end = None if until is None else moment(until, now, "--until")
    # 22:00 until 07:00 is one night: the begin lies before the end.
    begin = None if since_ is None else moment(since_, now if end is None else end, "--since")
    query = {"since": _time(begin), "until": _time(end), "project": project}
    client = DaemonClient.from_environment()
    if ensure_running(Home.from_environment(), client, note):
        note("-- daemon started --")
    answer: dict[str, Any] = client.get("/api/report", query)
    if format_ == "json":
        put_json(answer, indent=2)
    elif format_ == "html":
        from claude_loop.cli.report_html import as_html

        sys.stdout.buffer.write(as_html(answer).encode())  # a file, not words for a terminal: always UTF-8
    else:
        for line in (as_text if format_ == "text" else as_markdown)(answer):
            put(line)


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(max(0, round(at.timestamp() * 1000)))

"""`up`, `down` and `status`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from claude_loop import launch
from claude_loop.cli.terminal import duration, note, plural, printable
from claude_loop.client import DaemonClient
from claude_loop.clock import SystemClock, parse_time
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home


@click.command()
def up() -> None:
    """Start the daemon in the background; returns when it is healthy.

    Does nothing when it already runs.
    """
    home = Home.from_environment()
    client = DaemonClient(home)
    started = launch.start(home, client)
    daemon = DaemonNote.read(home)
    where = f" at {daemon.url} (pid {daemon.pid})" if daemon else ""
    note(f"claude-loop {'started' if started else 'already runs'}{where}.")


@click.command()
def down() -> None:
    """Stop the daemon. What scripts emit meanwhile waits in the spool."""
    home = Home.from_environment()
    note("claude-loop stopped." if launch.stop(home) else "claude-loop was not running.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def status(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show the daemon's state. Status 3 when none runs, 1 when it is unhealthy."""
    state = DaemonClient.from_environment().get("/status")
    if as_json:
        click.echo(json.dumps(state, indent=2, ensure_ascii=False))
    else:
        for line in _lines(state):
            click.echo(line)
    if state.get("status") != "healthy":
        sys.exit(1)


def _lines(state: dict[str, Any]) -> list[str]:
    log, spool = state.get("log") or {}, state.get("spool") or {}
    age = SystemClock().now_us() // 1000 - parse_time(state["started_at"]) // 1000
    clients, events = plural(state.get("clients", 0), "client"), plural(log.get("events", 0), "event")
    lines = [
        f"claude-loop {state['version']} is {state['status']} at {state['url']}",
        f"  pid {state['pid']}, up {duration(age)}, {clients}, {events} stored",
    ]
    if state.get("reason"):
        lines.append(f"  {printable(state['reason'])}")
    waiting = spool.get("backlog_files", 0)
    if waiting:
        lines.append(f"  {plural(waiting, 'spool file')} waiting")
    rejected = spool.get("rejected", 0)
    if rejected:
        lines.append(f"  {plural(rejected, 'spool line')} rejected, the last ones:")
        lines += [f"    {printable(one.get('file'), 60)}: {printable(one.get('reason'), 200)}" for one in _last(spool)]
    return lines


def _last(spool: dict[str, Any]) -> list[dict[str, Any]]:
    found = spool.get("rejected_lines") or []
    return [one for one in found if isinstance(one, dict)][-3:]

"""`up`, `down` and `status`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from claude_loop import launch
from claude_loop.build import full_version
from claude_loop.cli import FAILED
from claude_loop.cli.terminal import duration, note, plural, printable, put, put_json
from claude_loop.client import DaemonClient, ServerError
from claude_loop.clock import SystemClock, parse_time
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home
from claude_loop.succession import bring_up


@click.command()
def up() -> None:
    """Start the daemon in the background; returns when it is healthy.

    Does nothing when it already runs, unless it is of another version than this command: then it is stopped in order,
    and one of this version takes its place. Nothing is lost by that.

    Settings: docs/settings.md; CLAUDE_LOOP_PORT chooses another port.
    """
    home = Home.from_environment()
    client = DaemonClient(home)
    brought = bring_up(home, client, note)
    daemon = DaemonNote.read(home)
    where = f" at {daemon.url or home.socket} (pid {daemon.pid})" if daemon else ""
    if brought.former and daemon:
        note(f"claude-loop {printable(brought.former)} was stopped; {daemon.version} took its place{where}.")
    else:
        note(f"claude-loop {'started' if brought.started else 'already runs'}{where}.")
    if brought.kept and daemon:
        note(f"It is {printable(daemon.version)}, this command {full_version()}. {brought.kept}")
    elsewhere = os.environ.get("CLAUDE_LOOP_URL")
    if elsewhere:
        note(f"CLAUDE_LOOP_URL is set: the other commands ask {printable(elsewhere)}, not this daemon.")
    try:
        client.get("/health")
    except ServerError as illness:
        note(f"It is unhealthy: {printable(illness.message)}\n  {printable(illness.hint)}")
        sys.exit(FAILED)


@click.command()
def down() -> None:
    """Stop the daemon. What scripts emit meanwhile waits in the spool."""
    ended = launch.stop(Home.from_environment())
    note(
        {
            "stopped": "claude-loop stopped.",
            "killed": "claude-loop did not stop when asked to, and was killed. Nothing it acknowledged is lost.",
            "not running": "claude-loop was not running.",
        }[ended]
    )


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def status(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show the daemon's state. Status 3 when none runs, 1 when it is unhealthy."""
    state = DaemonClient.from_environment().get("/status")
    if as_json:
        put_json(state, indent=2)
    else:
        for line in _lines(state):
            put(line)
    if state["status"] != "healthy":
        sys.exit(FAILED)


def _lines(state: dict[str, Any]) -> list[str]:
    log, spool = state["log"], state["spool"] or {}
    age = SystemClock().now_us() // 1000 - parse_time(state["started_at"]) // 1000
    events = log["head"] - log["first"] + 1
    clients, where = plural(state["clients"], "client"), state["url"] or "its Unix socket"
    lines = [
        f"claude-loop {state['version']} is {state['status']} at {where}",
        f"  pid {state['pid']}, up {duration(max(0, age))}, {clients}, {plural(events, 'event')} stored",
        f"  in {state['home']}",
    ]
    if state["reason"]:
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

"""`open`: the monitor in the browser, let in by a code that works once."""

from __future__ import annotations

import webbrowser

import click

from claude_loop.cli.terminal import note
from claude_loop.client import DaemonClient
from claude_loop.errors import DaemonUnreachable
from claude_loop.instance import DaemonNote
from claude_loop.launch import ensure_running
from claude_loop.paths import Home


@click.command("open")
@click.option(
    "--print-url", is_flag=True, help="Print the address instead of opening it; it works once, for 60 seconds."
)
def open_(print_url: bool) -> None:  # noqa: FBT001 - click's way
    """Open the monitor in the browser."""
    home = Home.from_environment()
    client = DaemonClient.from_environment()
    ensure_running(home, client)
    code = client.post("/api/session/code", {})["code"]
    url = f"{_base(home, client)}/#{code}"
    if print_url:
        click.echo(url)
    elif webbrowser.open(url):
        note("Opened in the browser.")
    else:
        note(f"No browser could be started. Open within 60 seconds:\n  {url}")


def _base(home: Home, client: DaemonClient) -> str:
    if client.is_elsewhere:
        return client.where.rstrip("/")
    daemon = DaemonNote.read(home)
    if daemon is None:
        raise DaemonUnreachable("The daemon has left no note of its address.")
    return daemon.url

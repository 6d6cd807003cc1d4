"""`open`: the monitor in the browser, let in by a code that works once."""

from __future__ import annotations

import webbrowser

import click

from claude_loop.cli.terminal import note, put
from claude_loop.client import DaemonClient
from claude_loop.errors import NotSupported
from claude_loop.launch import ensure_running
from claude_loop.paths import Home


@click.command("open")
@click.option(
    "--print-url", is_flag=True, help="Print the address instead of opening it; it works once, for 60 seconds."
)
def open_(print_url: bool) -> None:  # noqa: FBT001 - click's way
    """Open the monitor in the browser."""
    client = DaemonClient.from_environment()
    ensure_running(Home.from_environment(), client, note)
    base = _base(client)
    if print_url:
        # Whoever carries the address elsewhere, perhaps through `ssh -L`, comes as another user.
        put(_url(client, base, any_user=True))
    elif webbrowser.open(_url(client, base, any_user=False)):
        note(f"Opened {base} in the browser.")
    else:
        note("No browser could be started. Open this address within 60 seconds:")
        put(_url(client, base, any_user=True))


def _url(client: DaemonClient, base: str, *, any_user: bool) -> str:
    code = client.post("/api/session/code", {"any_user": any_user})["code"]
    return f"{base}/#{code}"


def _base(client: DaemonClient) -> str:
    if client.is_elsewhere:
        return client.where.rstrip("/")
    url: str = client.get("/status")["url"]
    if not url:
        raise NotSupported("The daemon listens on its Unix socket alone: there is no address for a browser.")
    return url

"""`serve`: the daemon in the foreground, under systemd or a terminal."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--host", help="Address to bind. [default: 127.0.0.1, and ::1 with it]")
@click.option("--port", type=click.IntRange(0, 65_535), help="TCP port; 0 lets the system choose. [default: 18790]")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate file (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Private key file (PEM).")
@click.option("--insecure-behind-proxy", is_flag=True, default=None, help="A proxy in front speaks TLS.")
def serve(**flags: Any) -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM.

    All settings: docs/settings.md.
    """
    # Hundreds of modules stay for good: to look for garbage among them, again and again, takes a tenth of the start.
    gc.disable()
    from claude_loop.daemon import run
    from claude_loop.settings import load_settings

    gc.freeze()
    gc.enable()
    run(load_settings(**flags), _again(flags))


def _again(flags: dict[str, Any]) -> tuple[str, ...]:
    """The flags that were given, as one would write them in any directory."""
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    found = {name: value.absolute() if isinstance(value, Path) else value for name, value in given.items()}
    return tuple(f"--{name}" if value is True else f"--{name}={value}" for name, value in found.items())

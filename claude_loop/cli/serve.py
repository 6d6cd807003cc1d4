"""`serve`: the daemon in the foreground, under systemd or a terminal."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from claude_loop.paths import Home

# What libraries of ours load where it is installed and the daemon has no use for, connections of a client and coloured
# tracebacks: a tenth of its memory.
_NEEDLESS = ("greenlet", "requests", "rich", "websocket")


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
    # What SQLite moves out of memory for a moment belongs on the log's own disk: `/tmp` may be small or full, and a
    # service may not be allowed to write there at all. SQLite reads this once, when its module is imported.
    os.environ.setdefault("SQLITE_TMPDIR", str(Home.from_environment().root))
    with _without(*_NEEDLESS):
        from claude_loop.daemon import run
        from claude_loop.settings import load_settings

    gc.freeze()
    gc.enable()
    run(load_settings(**flags), _again(flags))


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Inside the block these packages count as not installed, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: the import statement takes it for absent
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _again(flags: dict[str, Any]) -> tuple[str, ...]:
    """The flags that were given, as one would write them in any directory."""
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    found = {name: value.absolute() if isinstance(value, Path) else value for name, value in given.items()}
    return tuple(f"--{name}" if value is True else f"--{name}={value}" for name, value in found.items())

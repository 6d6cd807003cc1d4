"""`serve`: the daemon in the foreground, under systemd or a terminal."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_loop.errors import SettingsRefused

if TYPE_CHECKING:
    from claude_loop.settings import Settings


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
    from claude_loop.daemon import run

    run(_settings(flags))


def _settings(flags: dict[str, Any]) -> Settings:
    """Raises ``SettingsRefused`` naming the setting."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from claude_loop.settings import config_file, load_settings

    hint = "docs/settings.md lists every setting with its values."
    try:
        return load_settings(**flags)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingsRefused(f"The setting {name}: {first['msg']}.", field=name, hint=hint) from None
    except SettingsError as failure:
        raise SettingsRefused(f"{failure}.", hint=hint) from None
    except tomllib.TOMLDecodeError as failure:
        raise SettingsRefused(f"{config_file()} is not TOML: {failure}.", hint=hint) from None

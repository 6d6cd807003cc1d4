"""`token`: named tokens for other machines and programs, with scopes of their own."""

from __future__ import annotations

from datetime import datetime

import click

from claude_loop.cli.since import later
from claude_loop.cli.terminal import local_time, note, printable, put, put_json
from claude_loop.clock import SystemClock
from claude_loop.paths import Home
from claude_loop.transports.token_store import GIVEN_SCOPES, Grant, TokenStore


@click.group()
def token() -> None:
    """Make, list and revoke tokens. A running daemon goes by what is done here at once, without a restart."""


@token.command(short_help="Print a new token, which cannot be shown again.")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(GIVEN_SCOPES), help="May repeat.")
@click.option("--name", help="What it is called here. [default: token-N]")
@click.option("--expires", metavar="WHEN", help="After 12h, 30d; or at a time: 2026-12-31T00:00. [default: never]")
def create(scopes: tuple[str, ...], name: str | None, expires: str | None) -> None:
    """Print a new token, which cannot be shown again: only a digest of it is kept."""
    home = Home.from_environment()
    end = None if expires is None else _microseconds(later(expires, datetime.now().astimezone(), "--expires"))
    home.prepare()
    made, grant = TokenStore(home.tokens).create(name, scopes, end, SystemClock())
    put(made)
    note(f"This is the token {grant.name} ({_words(grant)}). It is not shown again.")


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List the named tokens, without what would let anybody in."""
    now = SystemClock().now_us()
    grants = TokenStore(Home.from_environment().tokens).grants()
    if as_json:
        put_json({"tokens": [_as_dict(grant, now) for grant in grants]}, indent=2)
        return
    for grant in grants:
        over = ", over" if grant.is_over(now) else ""
        put(f"{printable(grant.name)}: {_words(grant)}, made {printable(local_time(grant.created_at))}{over}")
    if not grants:
        note("There are no named tokens.")


@token.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make a token void. What is open with it, Socket.IO or a stream, ends within a second."""
    TokenStore(Home.from_environment().tokens).revoke(name)
    note(f"{printable(name)} was revoked.")


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _words(grant: Grant) -> str:
    until = f"until {printable(local_time(grant.expires_at))}" if grant.expires_at else "without end"
    return f"{', '.join(grant.scopes)}; {until}"


def _as_dict(grant: Grant, now_us: int) -> dict[str, object]:
    return {
        "name": grant.name,
        "scopes": grant.scopes,
        "created_at": grant.created_at,
        "expires_at": grant.expires_at,
        "over": grant.is_over(now_us),
    }

"""`archive` and `forget`: putting a PRD away, and letting go of what it said."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

import click

from claude_loop.cli import FAILED
from claude_loop.cli.named import detail_of, proposed
from claude_loop.cli.terminal import note, printable
from claude_loop.client import REQUEST_TIMEOUT, DaemonClient
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

# The answer comes when all is blanked: of millions of events, while others are stored, that takes many minutes.
_FORGET_TIMEOUT = 7200.0


@click.command()
@click.argument("prd", shell_complete=proposed)
@click.option("--project", metavar="PROJECT", help="Needed when several projects have a PRD of this name.")
@click.option("--undo", is_flag=True, help="Bring it back.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def archive(prd: str, project: str | None, undo: bool, yes: bool) -> None:  # noqa: FBT001 - click's way
    """Put a PRD away, until a new run begins or you bring it back."""
    client = _client()
    shown = _find(client, prd, project)
    if not undo:
        _insist(f"Archive {_name(shown)}?", yes=yes)
    answer = _ask(client, shown, "archive", {"archived": not undo, "project": shown["project"]})
    if answer["seq"] is None:
        note(f"{_name(shown)} {'is not archived' if undo else 'was archived already'}.")
    else:
        note(f"{_name(shown)} was {'brought back' if undo else 'archived'}.")


@click.command()
@click.argument("prd", shell_complete=proposed)
@click.option("--project", metavar="PROJECT", help="Needed when several projects have a PRD of this name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(prd: str, project: str | None, yes: bool) -> None:  # noqa: FBT001 - click's way
    """Forget a PRD: blank what its events said, and take it out of every view and of the search. There is no undo."""
    client = _client()
    shown = _find(client, prd, project)
    _insist(f"Forget {_name(shown)} and everything its events said? It cannot be undone.", yes=yes)
    asked = {"confirm": shown["prd_id"], "project": shown["project"]}
    _ask(client, shown, "forget", asked, timeout=_FORGET_TIMEOUT)
    note(f"{_name(shown)} was forgotten.")


def _client() -> DaemonClient:
    client = DaemonClient.from_environment()
    ensure_running(Home.from_environment(), client, note)
    return client


def _find(client: DaemonClient, prd: str, project: str | None) -> dict[str, Any]:
    found: dict[str, Any] = detail_of(client, prd, project)["prd"]
    return found


def _ask(
    client: DaemonClient, prd: dict[str, Any], what: str, body: dict[str, Any], timeout: float = REQUEST_TIMEOUT
) -> Any:
    return client.post(f"/api/prds/{quote(prd['prd_id'], safe='')}/{what}", body, timeout)


def _name(prd: dict[str, Any]) -> str:
    name = "/".join(printable(part, 60) for part in (prd["project"], prd["prd_id"]) if part)
    return f"{name} “{printable(prd['title'], 80)}”" if prd["title"] else name


def _insist(question: str, *, yes: bool) -> None:
    """Ask, unless that was answered already. Raises ``UsageError`` where nobody is there to be asked."""
    if yes:
        return
    if not _is_asked():
        raise click.UsageError("Nobody can be asked here: say --yes.")
    if not click.confirm(question, err=True):
        note("Nothing was done.")
        sys.exit(FAILED)


def _is_asked() -> bool:
    return sys.stdin.isatty()

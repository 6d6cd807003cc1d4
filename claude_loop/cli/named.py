"""A PRD as a person names it: by its id, or as `prds` and `tail` show it, `PROJECT/PRD`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from claude_loop.client import DaemonClient, ServerError
from claude_loop.errors import ClaudeLoopError
from claude_loop.payloads import REQUIRED

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Document = dict[str, Any]
_PATIENCE_SECONDS = 1.0
# Shells put a name on the line as it is; any other would have to be quoted.
_PLAIN = re.compile(r"[\w./@%+,-]+")


def detail_of(client: DaemonClient, prd: str, project: str | None) -> Document:
    """What the daemon knows of the PRD. An id that holds a `/` comes first. Raises ``ServerError``, and
    ``click.UsageError`` for no name at all."""
    _insist_on_names([prd])
    try:
        return _ask(client, prd, project)
    except ServerError as refusal:
        if refusal.code != "not_found" or project is not None:
            raise
        for before, after in _halves(prd):
            try:
                return _ask(client, after, before)
            except ServerError as other:
                if other.code != "not_found":
                    raise
        raise


def filter_of(client: DaemonClient, prds: Sequence[str], project: str | None) -> Document:
    """The ids and the project that events must have. A PRD that nobody has named yet is taken at its word.

    Raises ``click.UsageError`` when they are of several projects, and ``ServerError``.
    """
    _insist_on_names(prds)
    if project is not None or not any("/" in prd for prd in prds):
        return {"prd_id": tuple(prds), "project": project}
    named = [_as_stored(client, prd) for prd in prds]
    projects = {of for of, _ in named}
    if len(projects) > 1:
        raise click.UsageError("These PRDs are of several projects: name them by their ids alone, or one project's.")
    return {"prd_id": tuple(prd for _, prd in named), "project": projects.pop()}


def proposed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For a shell's Tab: the PRDs that are not put away. Nothing is started, and nobody waits for long."""
    from click.shell_completion import CompletionItem

    del ctx, param
    try:
        cards = DaemonClient.from_environment().get("/api/prds", timeout=_PATIENCE_SECONDS)["prds"]
    except ClaudeLoopError:
        return []
    kept = [(card["project"], str(card["prd_id"])) for card in cards if card["archived_at"] is None]
    names = [f"{project}/{prd}" if project else prd for project, prd in kept]
    if incomplete:  # who begins with an id goes on with it
        names += [prd for project, prd in kept if project]
    found = dict.fromkeys(name for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name))
    return [CompletionItem(name) for name in found]


def known_types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For a shell's Tab: the types of events that have a meaning here."""
    from click.shell_completion import CompletionItem

    del ctx, param
    return [CompletionItem(type_) for type_ in sorted(REQUIRED) if type_.startswith(incomplete)]


def _insist_on_names(prds: Sequence[str]) -> None:
    if "" in prds:
        raise click.UsageError("The PRD's name is empty (an unset variable?).")


def _as_stored(client: DaemonClient, prd: str) -> tuple[str | None, str]:
    """The project that was named, if one was, and the id."""
    if "/" not in prd:
        return None, prd
    try:
        found = detail_of(client, prd, None)["prd"]
    except ServerError as refusal:
        if refusal.code not in {"not_found", "ambiguous_prd"}:
            raise
        return None, prd
    return (None if found["prd_id"] == prd else found["project"]), found["prd_id"]


def _halves(prd: str) -> list[tuple[str, str]]:
    """Each way in which it could be a project and an id: both may hold a `/` themselves."""
    places = [place for place, character in enumerate(prd) if character == "/"]
    return [(prd[:place], prd[place + 1 :]) for place in places if 0 < place < len(prd) - 1]


def _ask(client: DaemonClient, prd: str, project: str | None) -> Document:
    found: Document = client.get(f"/api/prds/{quote(prd, safe='')}", {"project": project})
    return found

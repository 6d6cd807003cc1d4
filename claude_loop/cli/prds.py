"""`prds` and `show`: the read model in the terminal."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import quote

import click

from claude_loop.cli.terminal import clock_time, duration, note, plural, printable, wants_colour
from claude_loop.client import DaemonClient
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

_MARKS = {
    "running": ("▶", "cyan"),
    "waiting": ("⏸", "magenta"),
    "paused": ("⏸", None),
    "stalled": ("…", "yellow"),
    "vanished": ("☠", "red"),
    "failed": ("✗", "red"),
    "done·claimed": ("~", "yellow"),
    "done·verified": ("✓", "green"),
    "todo": ("○", None),
    "failing": ("✗", "red"),
    "blocked": ("■", "yellow"),
}


def _client() -> DaemonClient:
    client = DaemonClient.from_environment()
    if ensure_running(Home.from_environment(), client):
        note("-- daemon started --")
    return client


@click.command()
@click.option("--json", "as_json", is_flag=True)
def prds(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List PRDs, what needs a person first."""
    answer = _client().get("/api/prds")
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    if not answer["prds"]:
        note("Nothing yet. Emit something, for example: claude-loop emit prd.started --prd PRD-001")
    for card in answer["prds"]:
        click.echo(f"{_mark(card['state'])} {_name(card)}  {_state(card)}")
        click.echo(f"    {_counts(card)}")


@click.command()
@click.argument("prd")
@click.option("--project", metavar="PROJECT", help="Needed when several projects have a PRD of this name.")
@click.option("--json", "as_json", is_flag=True)
def show(prd: str, project: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show one PRD: its state, and each story with attempts, tests and commits."""
    detail = _client().get(f"/api/prds/{quote(prd, safe='')}", {"project": project})
    if as_json:
        click.echo(json.dumps(detail, ensure_ascii=False))
        return
    card = detail["prd"]
    click.echo(f"{_mark(card['state'])} {_name(card)}  {_state(card)}  run {card['number']} of {card['runs']}")
    click.echo(f"    {_counts(card)}")
    for story in detail["stories"]:
        _story(story)
    if detail["stories_omitted"]:
        note(f"… and {plural(detail['stories_omitted'], 'story')} more.")


def _mark(state: str) -> str:
    mark, colour = _MARKS.get(state, ("·", None))
    return click.style(mark, fg=colour) if wants_colour(sys.stdout) else mark


def _name(card: dict[str, Any]) -> str:
    name = "/".join(printable(part, 60) for part in (card["project"], card["prd_id"]) if part)
    return f"{name} {printable(card['title'], 80)}" if card.get("title") else name


def _state(card: dict[str, Any]) -> str:
    """The state in words: for whom, since when, how long."""
    state = card["state"]
    if state == "waiting" and card["waiting"]:
        wait = card["waiting"]
        whom = {"human": "you", "rate_limit": "the rate limit"}.get(wait["for"], "something")
        return f"waiting for {whom} since {clock_time(wait['since'])}: {printable(wait['reason'], 120)}"
    if state == "stalled":
        return f"silent for {duration(card['silent_ms'])}, last: {printable(card['last']['type'], 60)}"
    if state == "vanished" and card["vanished_at"]:
        return f"process gone since {clock_time(card['vanished_at'])} without finishing"
    why = "; ".join(printable(reason, 120) for reason in card.get("why") or [])
    words = state.replace("done·", "done, ")
    return f"{words} · {duration(card['elapsed_ms'])}" + (f" · {why}" if why else "")


def _counts(card: dict[str, Any]) -> str:
    names = ("verified", "claimed", "failing", "running", "blocked", "todo")
    shown = [f"{card['counts'][name]} {'to do' if name == 'todo' else name}" for name in names if card["counts"][name]]
    return " · ".join(shown) or "no story yet"


def _story(story: dict[str, Any]) -> None:
    parts = [story["state"].replace("done·", "done, ")]
    if story["attempt"] > 1:
        parts.append(plural(story["attempt"], "attempt"))
    if story["worked_ms"]:
        parts.append(duration(story["worked_ms"]))
    test = story["last_test"]
    if test:
        failing = f" ({', '.join(printable(name, 60) for name in test['failing'][:3])})" if test["failing"] else ""
        parts.append(f"tests {test['passed']} ✓ {test['failed']} ✗{failing}")
    if story["last_commit"]:
        parts.append(f"commit {printable(story['last_commit']['hash'], 12)}")
    parts += [printable(reason, 120) for reason in story["why"]]
    title = f" {printable(story['title'], 60)}" if story.get("title") else ""
    click.echo(f"  {_mark(story['state'])} {printable(story['story_id'], 40)}{title}  {' · '.join(parts)}")

"""`prds` and `show`: the read model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import click

from claude_loop.cli.amounts import money, spent
from claude_loop.cli.lines import result_of_tests, short_hash
from claude_loop.cli.named import detail_of, proposed
from claude_loop.cli.outcomes import proof
from claude_loop.cli.terminal import (
    clock_time,
    columns,
    duration,
    note,
    padded,
    plural,
    printable,
    put,
    put_json,
    wants_colour,
)
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
    "blocked": ("⊘", "yellow"),
}
# A name longer than this moves its own line only.
_WIDEST_NAME = 44
_LISTED_AGENTS = 3
_MOST_EARLIER = 10
_LONG_CALL_MS = 60_000
_NO_PRD = "No PRD yet. Any loop shows up here with: claude-loop run -- ./your-loop.sh"


def _client() -> DaemonClient:
    client = DaemonClient.from_environment()
    if ensure_running(Home.from_environment(), client, note):
        note("-- daemon started --")
    return client


@click.command()
@click.option("--project", metavar="PROJECT", help="Only this project.")
@click.option("--all", "everything", is_flag=True, help="All that were done earlier, and the archived.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def prds(project: str | None, everything: bool, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List PRDs, what needs a person first, then the agents that work on none."""
    client = _client()
    answer = client.get("/api/prds")
    if project is not None:
        answer["prds"] = of_project(project, answer["prds"])
    if as_json:
        put_json(answer)
        return
    live = client.get("/api/sessions", {"live": "true"})["sessions"]
    agents = [session for session in live if session["prd_id"] is None]
    if project is not None:
        agents = of_project(project, agents)
    kept = [card for card in answer["prds"] if everything or card["archived_at"] is None]
    archived = len(answer["prds"]) - len(kept)
    cards = kept if everything else without_most_earlier(kept)
    if not answer["prds"]:
        note(_NO_PRD if project is None else "No PRD is of that project; `claude-loop prds` lists those there are.")
    for line in (*list_lines(cards), *agent_lines(agents)):
        put(line)
    if len(cards) < len(kept):
        note(f"… and {len(kept) - len(cards)} more that were done earlier; --all shows them.")
    if archived:
        note(f"{archived} archived; --all shows {'it' if archived == 1 else 'them'}.")


@click.command()
@click.argument("prd", shell_complete=proposed)
@click.option("--project", metavar="PROJECT", help="Needed when several projects have a PRD of this name.")
@click.option("--run", type=click.IntRange(1), metavar="N", help="An earlier run of it, by its number.")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def show(prd: str, project: str | None, run: int | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show one PRD: its state, and each story with attempts, tests and commits."""
    client = _client()
    detail = detail_of(client, prd, project)
    if run is not None:
        detail = _of_run(client, detail, run)
    if as_json:
        put_json(detail)
        return
    # The card is of the latest run: what it says of a run is to be that of the one that is shown.
    for line in detail_lines(detail | {"prd": detail["prd"] | detail["run"]}):
        put(line)
    if detail["stories_omitted"]:
        note(f"… and {plural(detail['stories_omitted'], 'story')} more.")


def of_project(project: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cards or sessions of one project; of none when it is empty, as over HTTP."""
    return [document for document in documents if (document["project"] or "") == project]


def without_most_earlier(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cards, and of those that were done earlier the latest: what needs somebody is not to scroll away."""
    earlier = [card for card in cards if card["group"] == "earlier"]
    left_out = {id(card) for card in earlier[_MOST_EARLIER:]}
    return [card for card in cards if id(card) not in left_out]


def _of_run(client: DaemonClient, detail: dict[str, Any], number: int) -> dict[str, Any]:
    """The same with another run in it. Raises ``click.UsageError`` when none is known by the number."""
    prd = detail["prd"]
    wanted = next((run["run_id"] for run in detail["runs"] if run["number"] == number), None)
    if wanted is None:
        numbers = ", ".join(str(run["number"]) for run in reversed(detail["runs"][:20]))
        raise click.UsageError(f"{prd['prd_id']} has no run {number}; the latest are {numbers}.")
    query = {"project": prd["project"] or "", "run_id": wanted}
    answer: dict[str, Any] = client.get(f"/api/prds/{quote(prd['prd_id'], safe='')}", query)
    return answer


def list_lines(cards: list[dict[str, Any]]) -> Iterator[str]:
    """Two lines for each card: what it is and its state, and below its stories counted."""
    width = _width([_name(card) for card in cards])
    for card in cards:
        yield f"{_mark(card['state'])} {padded(_name(card), width)}  {_state(card)}"
        yield f"  {' ' * width}  {_counts(card)}"
        for agent in card["agents"][:_LISTED_AGENTS]:
            yield f"  {' ' * width}  {_agent(agent, card)}"


def agent_lines(sessions: list[dict[str, Any]]) -> Iterator[str]:
    """Live agents that belong to no PRD, by project; first those that wait, for a person before others."""
    if sessions:
        yield "Agents without a PRD:"
    for session in sorted(sessions, key=_by_urgency):
        wait, doing = session["waiting"], session["doing"] or session["state"]
        if wait:
            doing = f"waiting for {_whom(wait)}{_until(wait, session)}: {printable(wait['reason'], 120)}"
        since = (
            session["last"]["at"]
            + session["silent_ms"]
            - (wait["since"] if wait else session["doing_since"] or session["last"]["at"])
        )
        where, agent = printable(session["project"] or "-", 40), printable(session["agent"] or "agent", 20)
        yield f"◇ {where} {agent}: {printable(doing, 160)} · {duration(max(0, since))}{_notified(session)}"


def _by_urgency(session: dict[str, Any]) -> tuple[int, str]:
    wait = session["waiting"]
    return 2 if wait is None else int(wait["for"] != "human"), session["project"] or ""


def detail_lines(detail: dict[str, Any]) -> Iterator[str]:
    """The PRD as in the list, then a line for each story of its latest run."""
    card = detail["prd"]
    several = f" · run {card['number']} of {card['runs']}" if card["runs"] > 1 else ""
    yield f"{_mark(card['state'])} {_name(card)}  {_state(card)}"
    yield f"  {_counts(card)}{several}"
    for agent in card["agents"]:
        yield f"  {_agent(agent, card)}"
    if promise := card["promise"]:
        yield f"  promised {printable(promise)}"
    if card["usage"]:
        yield f"  used {', '.join(spent(card['usage']))}"
    width = _width([_story_name(story) for story in detail["stories"]])
    for story in detail["stories"]:
        yield f"  {_mark(story['state'])} {padded(_story_name(story), width)}  {' · '.join(_story(story))}"


def _width(names: list[str]) -> int:
    return max((columns(name) for name in names if columns(name) <= _WIDEST_NAME), default=0)


def _mark(state: str) -> str:
    mark, colour = _MARKS.get(state, ("·", None))
    return click.style(mark, fg=colour) if wants_colour(sys.stdout) else mark


def _name(card: dict[str, Any]) -> str:
    name = "/".join(printable(part, 60) for part in (card["project"], card["prd_id"]) if part)
    return f"{name} {printable(card['title'], 80)}" if card["title"] else name


def _story_name(story: dict[str, Any]) -> str:
    name = printable(story["story_id"], 40)
    return f"{name} {printable(story['title'], 60)}" if story["title"] else name


def _state(card: dict[str, Any]) -> str:
    """The state in words: for whom, since when, how long."""
    state, wait = card["state"], card["waiting"]
    if card["superseded_by"] is not None and state != "vanished" and card["finished_at"] is None:
        return f"never finished: a later run began · {duration(card['elapsed_ms'])}"
    if state == "waiting" and wait:
        words = f"waiting for {_whom(wait)} since {clock_time(wait['since'])}{_until(wait, card)}"
        return f"{words}: {printable(wait['reason'], 120)}{_notified(card)}"
    if state == "stalled":
        return f"stalled: silent for {duration(card['silent_ms'])}, last: {printable(card['last']['type'], 60)}"
    if state == "vanished" and card["vanished_at"]:
        gone = f"vanished: its process is gone since {clock_time(card['vanished_at'])}, without finishing"
        return gone + _notified(card)
    words = proof(card) if state.startswith("done") else _with_reasons(state, card)
    if state == "running" and card["current"]:
        words += f" {printable(card['current']['story_id'], 40)}"
    if state == "running":
        words += _held_up(card)
    return f"{words} · {duration(card['elapsed_ms'])}"


def _held_up(card: dict[str, Any]) -> str:
    """What keeps the run's only agent from working, or at it for long, where nobody is asked for anything."""
    if len(card["agents"]) != 1:
        return ""
    agent = card["agents"][0]
    call = agent.get("call")
    if call and _now(card) - call["since"] >= _LONG_CALL_MS:
        summary = f": {printable(call['summary'], 100)}" if call["summary"] else ""
        return f", in {printable(call['tool'], 40)} for {duration(_now(card) - call['since'])}{summary}"
    if agent["state"] not in {"retrying", "compacting"}:
        return ""
    return f", {printable(agent['agent'] or 'its agent', 20)} is {printable(agent['doing'], 100)}"


def _whom(wait: dict[str, Any]) -> str:
    return {"human": "you", "rate_limit": "the rate limit"}.get(wait["for"], "something")


def _now(card: dict[str, Any]) -> int:
    """The daemon's clock when it made the card."""
    return int(card["last"]["at"] + card["silent_ms"])


def _until(wait: dict[str, Any], card: dict[str, Any]) -> str:
    if not wait["until"]:
        return ""
    left = wait["until"] - _now(card)
    return f", until {clock_time(wait['until'])} ({'overdue' if wait['overdue'] or left <= 0 else duration(left)})"


def _notified(card: dict[str, Any]) -> str:
    told = card["notified"]
    return f" · notified at {clock_time(told['at'])}" if told else ""


def _agent(agent: dict[str, Any], card: dict[str, Any]) -> str:
    """What a live agent is doing right now, and since when."""
    doing = agent["doing"] if agent["doing"] and agent["state"] != "waiting" else agent["state"]
    story = f" {printable(agent['story_id'], 40)}" if agent["story_id"] else ""
    since = duration(max(0, _now(card) - agent["since"]))
    return f"◇ {printable(agent['agent'] or 'agent', 20)}{story}: {printable(doing, 100)} · {since}"


def _with_reasons(state: str, document: dict[str, Any]) -> str:
    why = "; ".join(printable(reason, 120) for reason in document["why"])
    return f"{state}: {why}" if why else state


def _counts(card: dict[str, Any]) -> str:
    names = ("verified", "claimed", "failing", "running", "blocked", "todo")
    shown = [f"{card['counts'][name]} {'to do' if name == 'todo' else name}" for name in names if card["counts"][name]]
    cost = card["usage"]["cost_usd"] if card["usage"] else None
    return " · ".join(shown or ["no story yet"]) + (f" · {money(cost)}" if cost is not None else "")


def _story(story: dict[str, Any]) -> list[str]:
    done = story["state"].startswith("done")
    parts = [proof(story)] if done else [_with_reasons(story["state"], story)]
    if story["attempt"] > 1:
        parts.append(plural(story["attempt"], "attempt"))
    if story["worked_ms"]:
        parts.append(duration(story["worked_ms"]))
    test = story["last_test"]
    if test:
        names = [printable(name, 60) for name in test["failing"][:3]]
        parts.append(f"tests {result_of_tests(test['passed'], test['failed'], names=', '.join(names))}")
    if story["last_commit"]:
        parts.append(f"commit {short_hash(story['last_commit']['hash'])}")
    return parts

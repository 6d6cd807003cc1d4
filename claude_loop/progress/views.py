"""What ``GET /api/prds`` and ``GET /api/prds/{id}`` answer: the documents as they stand at a moment, in order."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol, cast

from claude_loop.errors import AmbiguousPrd, NotFound
from claude_loop.progress.documents import Card, Group, PrdDetail, PrdDocument, RunDocument, RunView, StoryDocument
from claude_loop.progress.keys import PRDS, RUNS, run_key, runs_prefix, stories_prefix
from claude_loop.progress.passing import shown

GROUPS: tuple[Group, ...] = ("waiting", "vanished", "failed", "stalled", "paused", "running", "today", "earlier")
MAX_STORIES = 1000
MAX_RUNS = 100
NO_PROJECT = ""
# What was done in the evening is today's until noon: whoever lets agents work overnight looks in the morning.
AT_LEAST_TODAY_MS = 12 * 3_600_000


class EntityReader(Protocol):
    """What a view needs of the event log."""

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        """The documents whose key starts with ``prefix``."""


class Moment:
    """The time of a view: now, how much silence means stalled, and since when what was done is today's (by this
    machine's day unless given); all in milliseconds."""

    __slots__ = ("now_ms", "stalled_after_ms", "today_ms")

    def __init__(self, now_ms: int, stalled_after_ms: int, today_ms: int | None = None) -> None:
        self.now_ms = now_ms
        self.stalled_after_ms = stalled_after_ms
        self.today_ms = today_since_ms(now_ms) if today_ms is None else today_ms


def today_since_ms(now_ms: int) -> int:
    """The last midnight in this machine's zone, or twelve hours ago, whichever is earlier."""
    today = datetime.fromtimestamp(now_ms / 1000).astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    return min(int(today.timestamp() * 1000), now_ms - AT_LEAST_TODAY_MS)


async def list_cards(reader: EntityReader, moment: Moment) -> list[Card]:
    """A card for each PRD, the most urgent first; within a group in an order that does not change with every event."""
    prds = await reader.entities(PRDS)
    runs = await reader.entities(RUNS)
    cards = []
    for document in prds.values():
        prd = cast("PrdDocument", document)
        run = runs.get(run_key(prd["project"], prd["prd_id"], prd["run_id"]))
        if run is not None:
            cards.append(make_card(prd, cast("RunDocument", run), moment))
    return sorted(cards, key=urgency)


def make_card(prd: PrdDocument, run: RunDocument, moment: Moment) -> Card:
    view = view_run(run, moment)
    return {
        **view,
        "title": prd["title"],
        "runs": prd["runs"],
        "archived_at": prd["archived_at"],
        "group": _group(prd, view, moment.today_ms),
    }


def view_run(run: RunDocument, moment: Moment) -> RunView:
    now = moment.now_ms
    ended_at = run["finished_at"] if run["finished_at"] is not None else run["vanished_at"]
    if ended_at is None and run["superseded_by"] is not None:
        ended_at = run["last"]["at"]  # nobody goes on with it
    return {
        **shown(run, now, moment.stalled_after_ms),
        "elapsed_ms": max(0, (now if ended_at is None else ended_at) - run["started_at"]),
        "silent_ms": max(0, now - run["last"]["at"]),
    }


def _group(prd: PrdDocument, run: RunDocument, today_ms: int) -> Group:
    if prd["archived_at"] is not None:  # put away: no longer urgent, whatever its state
        return "earlier"
    if run["state"] in ("done·claimed", "done·verified"):
        return "today" if (run["finished_at"] or 0) >= today_ms else "earlier"
    return cast("Group", run["state"])


def urgency(card: Card) -> tuple[int, bool, int, str, str]:
    """A key to sort by: who needs somebody most comes first."""
    waiting = card["waiting"] if card["group"] == "waiting" else None
    # A wait for a person comes before those that end by themselves.
    others = waiting is not None and waiting["for"] != "human"
    # Who has waited longest comes first; of all others, the latest.
    order = -(card["finished_at"] or card["started_at"]) if waiting is None else waiting["since"]
    return GROUPS.index(card["group"]), others, order, card["project"] or "", card["prd_id"]


async def find_prd(reader: EntityReader, prd_id: str, project: str | None = None) -> PrdDocument:
    """The PRD of this id. ``project`` None is any, ``""`` is the one without a project.

    Raises ``NotFound``, and ``AmbiguousPrd`` if several projects have one.
    """
    prds = [cast("PrdDocument", document) for document in (await reader.entities(PRDS)).values()]
    found = [prd for prd in prds if prd["prd_id"] == prd_id and project in (None, prd["project"] or NO_PROJECT)]
    if not found:
        where = f" in project {project}" if project else ""
        raise NotFound(
            f"No event has named a PRD {prd_id}{where}.",
            field="prd_id",
            hint=_meant(prd_id, prds) + "`claude-loop prds` lists those there are.",
        )
    if len(found) > 1:
        names = ", ".join(sorted(prd["project"] or "(none)" for prd in found))
        raise AmbiguousPrd(f"{len(found)} projects have a PRD {prd_id}: {names}.", field="project")
    return found[0]


def _meant(prd_id: str, prds: list[PrdDocument]) -> str:
    """The PRD that was probably meant: of the same letters, of this beginning, or nearly so."""
    from difflib import get_close_matches  # noqa: PLC0415 - hardly ever

    names = {prd["prd_id"].casefold(): prd for prd in prds}
    listed = {f"{prd['project']}/{prd['prd_id']}".casefold(): prd for prd in prds if prd["project"]}
    asked = prd_id.casefold()
    near = [asked] if asked in names | listed else get_close_matches(asked, names | listed, n=1, cutoff=0.75)
    begun = [name for name in names if name.startswith(asked)]
    if not near and len(begun) != 1:
        return ""
    prd = (names | listed)[(near or begun)[0]]
    return f"Did you mean {prd['prd_id']}{' of ' + prd['project'] if prd['project'] else ''}? "


async def prd_detail(
    reader: EntityReader, prd_id: str, moment: Moment, *, project: str | None = None, run_id: str | None = None
) -> PrdDetail:
    """One PRD with one of its runs, the latest unless ``run_id`` names another. Raises as ``find_prd`` does."""
    prd = await find_prd(reader, prd_id, project)
    names = prd["project"], prd["prd_id"]
    stored = [cast("RunDocument", d) for d in (await reader.entities(runs_prefix(*names))).values()]
    runs = {run["run_id"]: run for run in stored}
    chosen = runs.get(prd["run_id"] if run_id is None else run_id)
    if chosen is None:
        raise no_such_run(prd_id, run_id)
    stories = await _stories(reader, chosen)
    newest = sorted(stored, key=lambda run: run["number"], reverse=True)
    return {
        "prd": make_card(prd, runs[prd["run_id"]], moment),
        "run": view_run(chosen, moment),
        "stories": sorted(stories[:MAX_STORIES], key=lambda story: story["number"]),
        "stories_omitted": max(0, len(stories) - MAX_STORIES),
        "runs": [view_run(run, moment) for run in newest[:MAX_RUNS]],
        "runs_omitted": max(0, len(newest) - MAX_RUNS),
    }


def no_such_run(prd_id: str, run_id: str | None) -> NotFound:
    return NotFound(f"PRD {prd_id} has no run {run_id}.", field="run_id", hint="Leave it out for the latest run.")


async def _stories(reader: EntityReader, run: RunDocument) -> list[StoryDocument]:
    """The run's stories, the most recently active first."""
    prefix = stories_prefix(run["project"], run["prd_id"], run["run_id"])
    found = [cast("StoryDocument", document) for document in (await reader.entities(prefix)).values()]
    return sorted(found, key=lambda story: story["last_at"], reverse=True)

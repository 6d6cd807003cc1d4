"""What is said of a story or a PRD that reports its end: what the read model has proof of, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from claude_loop.cli.terminal import duration, plural, printable

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """``mark`` carries the meaning without its colour; ``colour`` is a name that click knows."""

    mark: str
    text: str
    colour: str | None = None


class Lookup(Protocol):
    """What a line may need to know beyond its event: documents of the read model, None where they cannot be had."""

    def story(self, event: Data) -> Data | None: ...

    def run(self, event: Data) -> Data | None: ...


def story_completed(event: Data, data: Data, lookup: Lookup) -> Line:
    if data.get("success") is False:
        return Line("✗", "failed", "red")
    story = lookup.story(event)
    if story is None or not story["state"].startswith("done"):
        return Line("~", "says it is done", "yellow")
    details = [proof(story)]
    if story["worked_ms"]:
        details.append(duration(story["worked_ms"]))
    if story["attempt"] > 1:
        details.append(plural(story["attempt"], "attempt"))
    verified = story["state"] == "done·verified"
    return Line("✓" if verified else "~", " · ".join(details), "green" if verified else "yellow")


def prd_completed(event: Data, data: Data, lookup: Lookup) -> Line:
    run = lookup.run(event)
    if data.get("success") is False:
        return Line("■", " · ".join(["finished without success", *_extent(run)]), "red")
    if run is None or run["finished_at"] is None:
        return Line("■", "says it is finished", "yellow")
    if run["state"] == "failed":
        return Line("■", " · ".join(["finished without success", *map(_phrase, run["why"]), *_extent(run)]), "red")
    colour = "green" if run["state"] == "done·verified" else "yellow"
    return Line("■", " · ".join([proof(run), *_extent(run)]), colour)


def proof(document: Data) -> str:
    """``done, verified``, or ``done, claimed`` and what is missing, of a story or a run."""
    if document["state"] == "done·verified":
        return "done, verified"
    why = "; ".join(map(_phrase, document["why"]))
    return f"done, claimed: {why}" if why else "done, claimed"


def _phrase(reason: str) -> str:
    return printable(reason, 120)


def _extent(run: Data | None) -> list[str]:
    """How much there was and how long it took."""
    if run is None:
        return []
    done = run["counts"]["verified"] + run["counts"]["claimed"]
    # The read model counts what was announced and not seen as well.
    stories = max(run["total_stories"] or 0, run["stories"])
    words = []
    if stories:
        words.append(plural(stories, "story") if done == stories else f"{done} of {plural(stories, 'story')} done")
    if run["finished_at"] is not None:
        words.append(duration(run["finished_at"] - run["started_at"]))
    return words

"""`prd.json` as ralph and claude-loop keep it: the plan of a PRD and which of its stories pass.

Standard library alone: `claude-loop run` imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePath
from typing import Any

from claude_loop.json_text import read_json

MOST_STORIES = 500
MOST_NEEDS = 50
MOST_CYCLES = 20
_LONGEST_ID = 128
_LONGEST_TITLE = 300


@dataclass(frozen=True, slots=True)
class PlannedStory:
    story_id: str
    title: str
    priority: int | float | None
    depends_on: tuple[str, ...]
    passes: bool

    def data(self) -> dict[str, Any]:
        """As `plan.updated` lists it."""
        return {
            "story_id": self.story_id,
            "title": self.title,
            "priority": self.priority,
            "depends_on": list(self.depends_on),
            "passes": self.passes,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    title: str
    stories: tuple[PlannedStory, ...]
    # Stories that depend on each other in a circle: what they wait for in it can never come first.
    cycles: tuple[tuple[str, ...], ...]

    def data(self) -> dict[str, Any]:
        known: dict[str, Any] = {"title": self.title, "stories": [story.data() for story in self.stories]}
        if self.cycles:
            known["cycles"] = [list(cycle) for cycle in self.cycles]
        return known

    def blocked(self) -> frozenset[str]:
        """Stories with a dependency that does not pass; unknown ones and those in a circle block nothing."""
        waiting = {story.story_id for story in self.stories if not story.passes}
        circles = [frozenset(cycle) for cycle in self.cycles]
        return frozenset(
            story.story_id
            for story in self.stories
            if any(
                other in waiting and not any({story.story_id, other} <= circle for circle in circles)
                for other in story.depends_on
            )
        )

    def current(self) -> PlannedStory | None:
        """The story a loop takes next: not done, not blocked, the lowest priority, then the first listed."""
        blocked = self.blocked()
        open_stories = [story for story in self.stories if not story.passes and story.story_id not in blocked]
        return min(open_stories, key=_urgency, default=None)


def read_plan(text: str | bytes) -> Plan | None:
    """None while the text is no whole plan: half written, emptied, or something else."""
    document = read_document(text)
    return None if document is None else parse_plan(document)


def read_document(text: str | bytes) -> dict[str, Any] | None:
    try:
        document = read_json(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def parse_plan(document: dict[str, Any]) -> Plan | None:
    listed = _first_list(document, "userStories", "user_stories", "stories")
    if listed is None:
        return None
    stories: dict[str, PlannedStory] = {}
    for entry in listed[:MOST_STORIES]:
        story = _story(entry) if isinstance(entry, dict) else None
        if story is not None:
            stories.setdefault(story.story_id, story)
    return Plan(_title(document), tuple(stories.values()), _cycles(stories))


def name_of(document: dict[str, Any], path: PurePath | str) -> str:
    """What it calls itself, the folder that claude-loop keeps it in, its branch, its project, its folder."""
    place = PurePath(path)
    folder = place.parent.name
    branch = document.get("branchName")
    named = (
        document.get("prd_id"),
        document.get("id"),
        folder if place.parent.parent.name in {"active", "completed", "abandoned"} else None,
        branch.rpartition("/")[2] if isinstance(branch, str) else None,
        document.get("project"),
        document.get("name"),
        folder,
    )
    return next((name for each in named if (name := _identifier(each))), "prd")


def _story(entry: dict[str, Any]) -> PlannedStory | None:
    story_id = _identifier(entry.get("id", entry.get("story_id")))
    if not story_id:
        return None
    priority = entry.get("priority")
    number = isinstance(priority, int | float) and not isinstance(priority, bool) and abs(priority) < 2**53
    needs = _first_list(entry, "dependencies", "dependsOn", "depends_on") or []
    return PlannedStory(
        story_id,
        _text(entry.get("title"), entry.get("name")),
        priority if number else None,
        tuple(dict.fromkeys(name for each in needs[:MOST_NEEDS] if (name := _identifier(each)))),
        entry.get("passes") is True,
    )


def _first_list(entry: dict[str, Any], *keys: str) -> list[Any] | None:
    return next((value for key in keys if isinstance(value := entry.get(key), list)), None)


def _title(document: dict[str, Any]) -> str:
    return _text(*(document.get(key) for key in ("title", "name", "project", "description", "branchName")))


def _text(*choices: Any) -> str:
    return next((each.strip()[:_LONGEST_TITLE] for each in choices if isinstance(each, str) and each.strip()), "")


def _identifier(value: Any) -> str:
    """Empty if this cannot be an id: ids are up to 128 printable characters."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= _LONGEST_ID and text.isprintable() else ""


def _urgency(story: PlannedStory) -> tuple[bool, float]:
    return (story.priority is None, story.priority or 0)


def _cycles(stories: dict[str, PlannedStory]) -> tuple[tuple[str, ...], ...]:
    """Each circle found is cut out, until the rest has an order."""
    needs = {each.story_id: {other for other in each.depends_on if other in stories} for each in stories.values()}
    found: list[tuple[str, ...]] = []
    while len(found) < MOST_CYCLES:
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            # The error lists who needs whom backwards, its first member again at the end.
            cycle = tuple(reversed(error.args[1][1:]))
            found.append(cycle)
            for story_id in cycle:
                needs[story_id].difference_update(cycle)
        else:
            break
    return tuple(found)

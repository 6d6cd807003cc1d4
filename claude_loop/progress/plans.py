"""What a plan says of stories before anything is done about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from claude_loop.progress.circles import circles
from claude_loop.progress.draft import Draft
from claude_loop.progress.reading import LONGEST_TEXT, identifier, text, whole
from claude_loop.progress.run_draft import RunDraft

KEPT_PLANNED = 500
KEPT_NEEDS = 32
KEPT_NEEDED_BY = 100


def planned(draft: Draft) -> None:
    """`plan.updated`: the stories there are, before anything was done about them."""
    plan = draft.data.get("stories")
    entitle(draft)
    if type(plan) is not list:
        return
    known = [entry for entry in plan[:KEPT_PLANNED] if type(entry) is dict and identifier(entry.get("story_id"))]
    for entry in sorted(known, key=_priority):
        _plan(draft, entry)
    _order(draft.run_draft, dict.fromkeys(entry["story_id"] for entry in known), draft.moment)
    draft.run_draft.expect_stories(len({entry["story_id"] for entry in known}))


def entitle(draft: Draft) -> None:
    """The PRD's title as the event says it, unless that only says its id again."""
    title = text(draft.data, "title", LONGEST_TEXT)
    if title not in (None, draft.event.prd_id) and draft.prd()["title"] != title:
        draft.prd()["title"] = title


def _priority(entry: dict[str, Any]) -> tuple[bool, int]:
    priority = whole(entry, "priority")
    return priority is None, priority or 0


def _plan(draft: Draft, entry: dict[str, Any]) -> None:
    story = draft.run_draft.touch_story(entry["story_id"], draft.moment)
    title, needs = text(entry, "title", LONGEST_TEXT), entry.get("depends_on")
    if title is not None:
        story["title"] = title
    story["priority"] = whole(entry, "priority")
    story["depends_on"] = [need for need in needs if identifier(need)][:KEPT_NEEDS] if type(needs) is list else []
    untouched = not (story["attempt"] or story["completed"] or story["tests"] or story["commits"])
    if entry.get("passes") is True and untouched:
        story["completed"] = story["done_before"] = True
        story["success"] = True
    elif story["done_before"] and entry.get("passes") is not True:
        story["completed"] = story["done_before"] = False
        story["success"] = None
    draft.run_draft.settle(story)


def _order(run: RunDraft, planned_ids: Iterable[str], moment: int) -> None:
    """What each story comes after: none that nobody has named, and not each other in a circle."""
    stories = [run.touch_story(story_id, moment) for story_id in planned_ids]
    needs = {
        story["story_id"]: [need for need in dict.fromkeys(story["depends_on"]) if run.knows_story(need)]
        for story in stories
    }
    together = circles(needs)
    for story in stories:
        story_id, before = story["story_id"], (story["after"], story["circle"])
        known = needs[story_id]
        story["circle"] = [need for need in known if together[need] == together[story_id]]
        story["after"] = [
            need
            for need in known
            if need not in story["circle"] and _is_told(run, need, story_id, moment) and not run.is_done(need)
        ]
        if before != (story["after"], story["circle"]):
            run.settle(story)


def _is_told(run: RunDraft, need: str, story_id: str, moment: int) -> bool:
    """Whether ``story_id`` will hear that ``need`` is done: one that would not must not come after it for ever."""
    other = run.touch_story(need, moment)
    if story_id not in other["needed_by"] and len(other["needed_by"]) < KEPT_NEEDED_BY:
        other["needed_by"] = [*other["needed_by"], story_id]
    return story_id in other["needed_by"]

"""What a plan says of stories before anything is done about them."""

from __future__ import annotations

from typing import Any

from claude_loop.progress.draft import Draft
from claude_loop.progress.reading import LONGEST_TEXT, identifier, text, whole

KEPT_PLANNED = 500
KEPT_NEEDS = 32


def planned(draft: Draft) -> None:
    """`plan.updated`: the stories there are, before anything was done about them."""
    plan = draft.data.get("stories")
    entitle(draft)
    if type(plan) is not list:
        return
    known = [entry for entry in plan[:KEPT_PLANNED] if type(entry) is dict and identifier(entry.get("story_id"))]
    for entry in sorted(known, key=_priority):
        _plan(draft, entry)
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

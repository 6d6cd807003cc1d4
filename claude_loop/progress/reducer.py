"""The reducer: what an event means for its project, PRD, run and story.

``fold`` takes any number of events into one draft, ``fold_one`` gives the documents that one event changes,
``difference`` what changed as patches. The same events over the same documents give the same result, whoever asks,
whenever, and however the events are cut into drafts. Nothing here knows the time; see ``passing.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from claude_loop.events import ARCHIVED, UNARCHIVED, Event
from claude_loop.progress import plans, runs, sessions, stories, usage, waits
from claude_loop.progress.activity import Activity, activity_of
from claude_loop.progress.attribution import attribute, story_at_work
from claude_loop.progress.documents import Patch, StoryDocument
from claude_loop.progress.draft import Document, Draft, Get
from claude_loop.progress.reading import identifier, moment_of

RULES: dict[str, Callable[[Draft], None]] = {
    "prd.started": runs.started,
    "prd.completed": runs.completed,
    "run.started": runs.started,
    "run.completed": runs.completed,
    "iteration.started": runs.iterated,
    "iteration.completed": runs.iterated,
    "agent.waiting": waits.waiting,
    "agent.resumed": waits.resumed,
    "agent.idle": waits.turned_idle,
    "session.ended": waits.left,
    "plan.updated": plans.planned,
    "output.chunk": runs.printed,
    "usage.reported": usage.reported,
    "alert.sent": runs.notified,
    "alert.resolved": runs.resolved,
    "control.paused": runs.paused,
    "control.resumed": runs.unpaused,
    "system.run_owned": runs.owned,
    "system.run_vanished": runs.vanished,
    "error.occurred": runs.failed,
    "progress.updated": runs.progressed,
    "log.message": runs.logged,
    "story.started": stories.started,
    "story.completed": stories.completed,
    "story.blocked": stories.blocked,
    "test.run": stories.tested,
    "commit.created": stories.committed,
    ARCHIVED: runs.archived,
    UNARCHIVED: runs.unarchived,
}
# Types whose story may stand in their data alone: a spooled event that failed its model has no story in its envelope.
_NAME_A_STORY = frozenset(
    {
        "story.started",
        "story.completed",
        "story.blocked",
        "test.run",
        "commit.created",
        "error.occurred",
        "progress.updated",
    }
)
_ABSENT = object()


def fold(event: Event, draft: Draft) -> tuple[str | None, str | None]:
    """Fold the next event into ``draft``. The run and the story it belongs to; its own ids if it belongs to none."""
    prd_id, activity = event.prd_id, activity_of(event.type)
    if prd_id is None:
        if activity != "none":
            _fold_without_prd(event, draft)
        elif event.type == "alert.sent":
            sessions.tell(draft, event)
        return event.run_id, event.story_id
    draft.take(event, prd_id)
    run_draft = attribute(draft, activity)
    if run_draft is None:
        return event.run_id, event.story_id
    draft.run_draft = run_draft
    draft.run = run_draft.document
    draft.story = None
    story_id = event.story_id
    rule = RULES.get(event.type)
    if rule is not None:
        data = event.data
        draft.data = data if type(data) is dict else {}
    if activity != "none":
        _show_life(draft, activity)
        story_id = story_at_work(draft)
        draft.story = _story_of(draft, story_id)
    if rule is not None:
        rule(draft)
    if event.session_id is not None and activity != "none":
        worked_on = story_id if draft.story is None else draft.story["story_id"]
        sessions.follow(draft, event, draft.moment, draft.run, worked_on)
    return run_draft.document["run_id"], story_id


def fold_one(event: Event, get: Get) -> dict[str, Document]:
    """The documents as they are after an event, changed or new ones only.

    ``get`` answers the current document of a key, or None; it is never changed in place.
    """
    draft = Draft(get)
    fold(event, draft)
    return draft.documents()


def difference(
    key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, seq: int, at: int
) -> list[Patch]:
    """The patches that make ``before`` into ``after``; None is no document."""
    if after is None:
        return [] if before is None else [{"seq": seq, "at": at, "path": [key], "value": None}]
    if before is None:
        return [{"seq": seq, "at": at, "path": [key], "value": after}]
    return [
        {"seq": seq, "at": at, "path": [key, field], "value": value}
        for field, value in after.items()
        if before.get(field, _ABSENT) != value
    ]


def _show_life(draft: Draft, activity: Activity) -> None:
    run, run_draft = draft.run, draft.run_draft
    run_draft.last = draft.event
    run_draft.moments.append(draft.moment)
    if run["vanished_at"] is not None:
        run["vanished_at"] = None
    if run["waits"] and activity == "work":
        waits.worked(draft)


def _story_of(draft: Draft, story_id: str | None) -> StoryDocument | None:
    event, moment = draft.event, draft.moment
    if story_id is None and event.type in _NAME_A_STORY:
        story_id = identifier(draft.data.get("story_id"))
    if story_id is None:
        return None
    story = draft.run_draft.touch_story(story_id, moment)
    story["last_at"] = max(story["last_at"], moment)
    return story


def _fold_without_prd(event: Event, draft: Draft) -> None:
    if event.project is not None:
        _fold_project(event, event.project, draft)
    if event.session_id is not None:
        sessions.follow(draft, event, moment_of(event), None, event.story_id)


def _fold_project(event: Event, project: str, draft: Draft) -> None:
    """An event without a PRD leaves one trace: when its project last showed a sign of life."""
    moment, before = moment_of(event), draft.project(project)
    latest = moment if before is None else max(before["last"]["at"], moment)
    draft.put_project({"project": project, "last": {"seq": event.seq, "at": latest, "type": event.type}})

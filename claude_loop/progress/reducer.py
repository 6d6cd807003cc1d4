"""The reducer: what an event means for its project, PRD, run and story.

``fold`` gives the changed documents, ``reduce`` the same as patches. Both are pure: the same events over the same
documents give the same result, whoever asks and whenever. Nothing here knows the time; see ``passing.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from claude_loop.events import Event
from claude_loop.progress import runs, stories
from claude_loop.progress.activity import Activity, activity_of
from claude_loop.progress.attribution import attribute
from claude_loop.progress.documents import Last, Patch, ProjectDocument, StoryDocument
from claude_loop.progress.draft import Document, Draft, Get
from claude_loop.progress.keys import project_key
from claude_loop.progress.reading import identifier, moment_of
from claude_loop.progress.states import judge_run
from claude_loop.progress.timing import record_activity

RULES: dict[str, Callable[[Draft], None]] = {
    "prd.started": runs.started,
    "prd.completed": runs.completed,
    "run.started": runs.started,
    "run.completed": runs.completed,
    "iteration.started": runs.iterated,
    "iteration.completed": runs.iterated,
    "agent.waiting": runs.waiting,
    "agent.resumed": runs.resumed,
    "control.paused": runs.paused,
    "control.resumed": runs.unpaused,
    "system.run_owned": runs.owned,
    "system.run_vanished": runs.vanished,
    "error.occurred": runs.failed,
    "progress.updated": runs.progressed,
    "story.started": stories.started,
    "story.completed": stories.completed,
    "story.blocked": stories.blocked,
    "test.run": stories.tested,
    "commit.created": stories.committed,
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


# The documents as they are after an event, changed or new ones only; and the run it belongs to.
Folded = tuple[dict[str, Document], str | None]


def fold(event: Event, get: Get) -> Folded:
    """Fold one event in. ``get`` answers the current document of a key, or None; it is never changed in place."""
    if event.prd_id is None:
        return _fold_project(event, get), event.run_id
    draft = Draft(event, event.prd_id, get)
    run = attribute(draft)
    if run is None:
        return {}, event.run_id
    draft.run = run
    activity = activity_of(event.type)
    if activity == "none":
        draft.story = None
    else:
        _show_life(draft, activity)
        draft.story = _story_of(draft)
    rule = RULES.get(event.type)
    if rule is not None:
        rule(draft)
    elif run["state"] == "running":
        return draft.documents, run["run_id"]  # nothing happened that the state depends on
    run["state"], run["why"] = judge_run(run)
    return draft.documents, run["run_id"]


def reduce(event: Event, get: Get) -> list[Patch]:
    """The patches that make the current documents into those after the event."""
    moment = moment_of(event)
    return [
        patch
        for key, document in fold(event, get)[0].items()
        for patch in difference(key, get(key), document, event.seq, moment)
    ]


def difference(key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any], seq: int, at: int) -> list[Patch]:
    """The patches that make ``before`` into ``after``."""
    if before is None:
        return [{"seq": seq, "at": at, "path": [key], "value": after}]
    return [
        {"seq": seq, "at": at, "path": [key, field], "value": value}
        for field, value in after.items()
        if before.get(field, _ABSENT) != value
    ]


def _show_life(draft: Draft, activity: Activity) -> None:
    event, run, moment = draft.event, draft.run, draft.moment
    latest = run["last"]["at"]
    run["last"] = {"seq": event.seq, "at": max(latest, moment), "type": event.type}
    record_activity(run, moment)
    if run["vanished_at"] is not None:
        run["vanished_at"] = None
    if activity == "work" and run["waits"]:
        runs.end_waits(draft, event.session_id)


def _story_of(draft: Draft) -> StoryDocument | None:
    event = draft.event
    story_id = event.story_id
    if story_id is None and event.type in _NAME_A_STORY:
        story_id = identifier(draft.data.get("story_id"))
    if story_id is None:
        return None
    story = draft.touch_story(story_id)
    story["last_at"] = max(story["last_at"], draft.moment)
    return story


def _fold_project(event: Event, get: Get) -> dict[str, Document]:
    """An event without a PRD leaves one trace: when its project last showed a sign of life."""
    if event.project is None or activity_of(event.type) == "none":
        return {}
    key, moment = project_key(event.project), moment_of(event)
    before: ProjectDocument | None = get(key)
    last: Last = {
        "seq": event.seq,
        "at": moment if before is None else max(before["last"]["at"], moment),
        "type": event.type,
    }
    return {key: {"project": event.project, "last": last}}

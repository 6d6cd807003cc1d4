"""Which run an event belongs to.

- A publisher's ``run_id`` is honoured: an unknown one opens that run.
- ``prd.started`` or ``run.started`` without one opens a new run, named after the event's id, so that a rebuild gives it
  the same name. Only the two together, in either order, open one run and not two.
- Everything else belongs to the PRD's latest run, also after that has finished; the first event of a PRD opens one.
- What is said about a run (``activity.py``) opens none.
"""

from __future__ import annotations

from claude_loop.progress.activity import activity_of
from claude_loop.progress.documents import RunDocument
from claude_loop.progress.draft import Draft
from claude_loop.progress.fresh import new_run

OPENING = frozenset({"prd.started", "run.started"})


def attribute(draft: Draft) -> RunDocument | None:
    """The event's run, to be changed; None if there is none and this event opens none."""
    run_id = draft.event.run_id or _implied_run_id(draft)
    run = draft.touch_run(run_id)
    if run is None and activity_of(draft.event.type) != "none":
        run = _open(draft, run_id)
    return run


def _implied_run_id(draft: Draft) -> str:
    event, prd = draft.event, draft.stored_prd()
    if prd is None:
        return event.id
    if event.type in OPENING:
        latest = draft.stored_run(prd["run_id"])
        if latest is None or not _joins(event.type, latest):
            return event.id
    return prd["run_id"]


def _joins(opening: str, latest: RunDocument) -> bool:
    """Whether this is the other half of one beginning: `run.started` by the wrapper, `prd.started` by the script."""
    return latest["finished_at"] is None and bool(latest["begun_by"]) and opening not in latest["begun_by"]


def _open(draft: Draft, run_id: str) -> RunDocument:
    prd = draft.prd()
    previous = draft.stored_run(prd["run_id"])
    if previous is not None and previous["finished_at"] is None:
        superseded = draft.touch_run(prd["run_id"])
        if superseded is not None:
            superseded["superseded_by"] = run_id
    run = new_run(prd, run_id, draft.event.type, draft.event.seq, draft.moment)
    draft.add_run(run)
    prd["run_id"] = run_id
    prd["runs"] += 1
    return run

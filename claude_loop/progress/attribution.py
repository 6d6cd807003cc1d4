"""Which run an event belongs to, and which story of it, where the publisher does not say.

- A publisher's ``run_id`` is honoured: an unknown one opens that run.
- ``prd.started`` or ``run.started`` without one opens a new run, named after the event's id, so that a rebuild gives it
  the same name. Only the two together, in either order, open one run and not two.
- Everything else belongs to the PRD's latest run, also after that has finished; the first event of a PRD opens one.
- What is said about a run (``activity.py``) opens none.
- Observers (hooks, the git watch, …) know no stories. A commit is of the first story of the run that its subject names;
  that, and everything else they see, is of the run's only running story; of none while there are none or several. What
  was before that story began is of the one before.
- What is heard late, because the daemon was away, may be of stories that nobody has told of yet. A session that began
  after a commit is then taken to be about the next story: what it does waits for its own commit, or for a start.
"""

from __future__ import annotations

from claude_loop.events import OBSERVERS
from claude_loop.progress.activity import Activity
from claude_loop.progress.documents import StoryDocument, new_run
from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import StoryInWork
from claude_loop.progress.run_draft import RunDraft

# What is seen of the run as a whole.
_OF_THE_RUN = frozenset(
    {"prd.started", "prd.completed", "run.started", "run.completed", "iteration.started", "iteration.completed"}
    | {"plan.updated"}
)
OPENING = frozenset({"prd.started", "run.started"})
# By then the watch of the plan would have told which story is at work, had the daemon been there.
_LATE_MS = 2000


def attribute(draft: Draft, activity: Activity) -> RunDraft | None:
    """The event's run, to be changed; None if there is none and this event opens none."""
    event, prd = draft.event, draft.prd_draft
    run_id = event.run_id
    if not run_id:
        known = prd.document
        if known is None or (event.type in OPENING and not _joins(event.type, draft.touch_run(known["run_id"]))):
            run_id = event.id
        else:
            run_id = known["run_id"]
    run = prd.runs.get(run_id) or draft.touch_run(run_id)
    if run is None and activity != "none":
        run = _open(draft, run_id)
    return run


def story_at_work(draft: Draft) -> str | None:
    """The story of the draft's event, whose run is known: its own, or the one an observer's event is taken to be of."""
    event = draft.event
    if event.story_id is not None or event.source not in OBSERVERS or event.type in _OF_THE_RUN:
        return event.story_id
    if event.type == "commit.created":
        named = event.data.get("mentions")
        for story_id in named if type(named) is list else ():
            if type(story_id) is str and draft.run_draft.knows_story(story_id):
                return story_id
    running = draft.run["running"]
    if len(running) > 1:
        return None
    if not running:
        return _story_before(draft)
    if draft.moment < running[0]["since"] and (before := _story_before(draft)) is not None:
        return before
    is_late = event.received_at - event.at >= _LATE_MS and event.session_id and event.type != "commit.created"
    return _story_heard_late(draft, running[0], event.session_id or "") if is_late else running[0]["story_id"]


def _story_before(draft: Draft) -> str | None:
    """The story that was at work at the event's moment, and is not any more; None where that is not known."""
    run = draft.run
    names = {claim["story_id"] for claim in run["claims"]} | {*run["left"]}
    names.update(last["story_id"] for last in (run["last_test"], run["last_commit"]) if last and last["story_id"])
    found = [name for name in names if _was_at_work(draft.run_draft.story(name), draft.moment)]
    return found[0] if len(found) == 1 else None


def _was_at_work(story: StoryDocument | None, moment: int) -> bool:
    attempts = [] if story is None else story["attempts"]
    return any(each["started_at"] <= moment <= (each["finished_at"] or 0) for each in attempts)


def _story_heard_late(draft: Draft, running: StoryInWork, session_id: str) -> str | None:
    session, commit = draft.known_session(draft.run, session_id), draft.run["last_commit"]
    began_at = draft.moment if session is None else session["opened_at"]
    if session is not None and session["stories"]:
        last = session["stories"][-1]
        # One that is done by now was only taken to be at work because nobody had told of its end.
        is_over = last["story_id"] is not None and draft.run_draft.is_done(last["story_id"])
        if last["since"] >= max(began_at, running["since"]) and not is_over:
            return last["story_id"]
    is_next = commit is not None and running["since"] <= commit["at"] < began_at
    return None if is_next else running["story_id"]


def _joins(opening: str, latest_run: RunDraft | None) -> bool:
    """Whether this is the other half of one beginning: `run.started` by the wrapper, `prd.started` by the script."""
    if latest_run is None:
        return False
    latest = latest_run.document
    return latest["finished_at"] is None and bool(latest["begun_by"]) and opening not in latest["begun_by"]


def _open(draft: Draft, run_id: str) -> RunDraft:
    prd = draft.prd()
    previous = draft.touch_run(prd["run_id"])
    if previous is not None and previous.document["finished_at"] is None:
        previous.document["superseded_by"] = run_id
    run = new_run(prd, run_id, draft.event.type, draft.event.seq, draft.moment)
    prd["run_id"] = run_id
    prd["runs"] += 1
    prd["archived_at"] = None
    return draft.add_run(run)

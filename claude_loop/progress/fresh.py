"""Documents as they are born: every field is there from the beginning, so that a patch only ever sets one."""

from __future__ import annotations

from claude_loop.progress.documents import PrdDocument, RunDocument, StoryDocument
from claude_loop.progress.session_documents import SessionDocument

# A minute a bucket at first: a run of 24 minutes fills the sparkline, a longer one widens the buckets.
FIRST_ACTIVITY_WIDTH_MS = 60_000


def new_prd(project: str | None, prd_id: str, moment: int) -> PrdDocument:
    """A PRD before its first run."""
    return {
        "project": project,
        "prd_id": prd_id,
        "title": None,
        "run_id": "",
        "runs": 0,
        "created_at": moment,
        "archived_at": None,
    }


def new_run(prd: PrdDocument, run_id: str, opened_by: str, seq: int, moment: int) -> RunDocument:
    """The next run of ``prd``."""
    return {
        "project": prd["project"],
        "prd_id": prd["prd_id"],
        "run_id": run_id,
        "number": prd["runs"] + 1,
        "opened_by": opened_by,
        "begun_by": [],
        "superseded_by": None,
        "state": "running",
        "why": [],
        "started_at": moment,
        "finished_at": None,
        "prd_success": None,
        "run_success": None,
        "exit_code": None,
        "last": {"seq": seq, "at": moment, "type": opened_by},
        "owner": None,
        "owned": False,
        "vanished_at": None,
        "waiting": None,
        "waits": [],
        "past_waits": [],
        "waited_ms": 0,
        "paused": None,
        "iteration": None,
        "max_iterations": None,
        "total_stories": None,
        "stories": 0,
        "counts": {"todo": 0, "running": 0, "failing": 0, "blocked": 0, "claimed": 0, "verified": 0},
        "running": [],
        "current": None,
        "claims": [],
        "tests": 0,
        "last_test": None,
        "commits": 0,
        "last_commit": None,
        "errors": 0,
        "last_error": None,
        "recent_errors": [],
        "progress": None,
        "story_times_ms": [],
        "estimate": None,
        "activity": [0],
        "activity_width_ms": FIRST_ACTIVITY_WIDTH_MS,
        "agents": [],
        "notified": None,
        "output_bytes": 0,
        "usage": None,
    }


def new_story(run: RunDocument, story_id: str, moment: int) -> StoryDocument:
    """The next story of ``run``, not started."""
    return {
        "project": run["project"],
        "prd_id": run["prd_id"],
        "run_id": run["run_id"],
        "story_id": story_id,
        "number": run["stories"] + 1,
        "title": None,
        "priority": None,
        "depends_on": [],
        "after": [],
        "circle": [],
        "needed_by": [],
        "done_before": False,
        "state": "todo",
        "why": [],
        "attempt": 0,
        "attempts": [],
        "completed": False,
        "success": None,
        "blocked": None,
        "first_at": moment,
        "last_at": moment,
        "started_at": None,
        "finished_at": None,
        "worked_ms": 0,
        "waited_before_ms": 0,
        "tests": 0,
        "test_runs": [],
        "last_test": None,
        "commits": 0,
        "recent_commits": [],
        "last_commit": None,
        "errors": 0,
        "last_error": None,
        "progress": None,
    }


def new_session(
    project: str | None, prd_id: str | None, session_id: str, seq: int, moment: int, opened_by: str
) -> SessionDocument:
    """A session of which nothing is known yet."""
    return {
        "project": project,
        "prd_id": prd_id,
        "run_id": None,
        "story_id": None,
        "stories": [],
        "session_id": session_id,
        "agent": None,
        "model": None,
        "title": None,
        "cwd": None,
        "state": "running",
        "doing": None,
        "doing_since": None,
        "opened_at": moment,
        "first_at": moment,
        "ended_at": None,
        "last": {"seq": seq, "at": moment, "type": opened_by},
        "waiting": None,
        "retrying": None,
        "compacting_since": None,
        "idle": False,
        "calls": 0,
        "failed_calls": 0,
        "open_calls": [],
        "subagents": [],
        "subagents_seen": 0,
        "prompts": 0,
        "last_prompt": None,
        "last_message": None,
        "progress": None,
    }

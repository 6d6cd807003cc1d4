"""The states, as judged from a document alone. ``docs/states.md`` says the same in words and is tested against this."""

from __future__ import annotations

import re

from claude_loop.progress.documents import RunDocument, StoryDocument
from claude_loop.progress.parts import RunState, SessionState, StoryState
from claude_loop.progress.session_documents import SessionDocument

# What a story's state is called in the counts of its run.
COUNTED_AS = {
    "todo": "todo",
    "running": "running",
    "failing": "failing",
    "blocked": "blocked",
    "done·claimed": "claimed",
    "done·verified": "verified",
}

NAMED_STORIES = 5
# How a shell tells of an end by a signal: 128 and its number.
_SIGNALS = {
    129: "SIGHUP",
    130: "Ctrl-C",
    131: "SIGQUIT",
    134: "SIGABRT",
    137: "SIGKILL",
    139: "SIGSEGV",
    143: "SIGTERM",
}
# A promise may have any words. Those made of nothing but these say that nothing is left to do.
_ALL_DONE = re.compile(
    r"(?:(?:all|everything|the|task|tasks|work|project|prd|story|stories|is|are|has|have|been)\s+)*"
    r"(?:complete|completed|done|finished)[.!]*",
    re.IGNORECASE,
)


def judge_story(story: StoryDocument) -> tuple[StoryState, list[str]]:
    """The story's state, and why it is no better, in phrases."""
    if story["blocked"] is not None:
        return "blocked", [story["blocked"]]
    if story["completed"] and story["success"] is not False:
        missing = _missing_proof(story)
        return ("done·claimed", missing) if missing else ("done·verified", [])
    why = _failures(story)
    if why:
        return "failing", why
    begun = story["attempt"] or story["tests"] or story["commits"] or story["progress"]
    return ("running", []) if begun else ("todo", _predecessors(story))


def _predecessors(story: StoryDocument) -> list[str]:
    """What comes before it; no blocker, for the loop gets there by itself."""
    after, circle = story["after"], story["circle"]
    return [*_named("after", after), *_named("in a circle with", circle)]


def _named(words: str, stories: list[str]) -> list[str]:
    more = f" and {len(stories) - NAMED_STORIES} more" if len(stories) > NAMED_STORIES else ""
    return [f"{words} {', '.join(stories[:NAMED_STORIES])}{more}"] if stories else []


def _failures(story: StoryDocument) -> list[str]:
    why = []
    attempt = f"attempt {story['attempt']}" if story["attempt"] else "it"
    if story["completed"]:
        why.append(f"{attempt} failed")
    elif story["attempts"] and story["attempts"][-1]["outcome"] == "left":
        why.append(f"the run ended before {attempt} was completed")
    test = story["last_test"]
    if test is not None and test["failed"]:
        why.append(f"last test run had {test['failed']} failing")
    begun_at = story["attempts"][-1]["started_at"] if story["attempts"] else 0
    return why + _last_error(story, begun_at) if why else []


def _last_error(of: RunDocument | StoryDocument, begun_at: int) -> list[str]:
    """What was reported to have gone wrong since ``begun_at``, unless tests have run after it: they tell better."""
    error, test = of["last_error"], of["last_test"]
    if error is None or error["at"] < begun_at or (test is not None and test["at"] > error["at"]):
        return []
    return [f"last error: {error['error']}"]


def _missing_proof(story: StoryDocument) -> list[str]:
    """What a story that says done lacks: a passing last test run and a commit, both since its last start."""
    if story["done_before"]:
        return ["it was done before this run began"]
    since = f" since attempt {story['attempt']}" if story["attempt"] > 1 else ""
    missing = []
    if story["success"] is None:
        missing.append("whether it succeeded was not said")
    test = story["last_test"]
    if test is None:
        missing.append(f"no test run{since}")
    elif test["passed"] is None or test["failed"] is None:
        missing.append("last test run had no readable result")
    elif test["failed"]:
        missing.append(f"last test run had {test['failed']} failing")
    elif not test["passed"]:
        missing.append("last test run had no passing test")
    if story["last_commit"] is None:
        missing.append(f"no commit{since}")
    return missing


def judge_run(run: RunDocument) -> tuple[RunState, list[str]]:
    """The run's state as far as time does not matter, and why it is no better, in phrases."""
    if run["finished_at"] is not None:
        return _judge_finished(run)
    if run["vanished_at"] is not None:
        return "vanished", []
    if run["paused"] is not None:
        return "paused", []
    if run["waiting"] is not None:
        return "waiting", []
    return "running", []


def _judge_finished(run: RunDocument) -> tuple[RunState, list[str]]:
    code = None if run["prd_success"] is False else run["exit_code"]
    if run["prd_success"] is False or run["run_success"] is False:
        by = f" ({_SIGNALS[code]})" if code in _SIGNALS else ""
        how = [] if code is None else [f"the command ended with status {code}{by}"]
        # That somebody said so is all there is to say only where no error was told.
        return "failed", [*how, *_last_error(run, run["started_at"])] or ["it was reported as failed"]
    if (undone := _undone(run)) and _promises_all(run):
        return "failed", [f"promised {run['promise']}", *undone]
    missing = _missing_stories(run)
    return ("done·claimed", missing) if missing else ("done·verified", [])


def _promises_all(run: RunDocument) -> bool:
    words = (run["promise"] or "").replace("_", " ").replace("-", " ").strip()
    return _ALL_DONE.fullmatch(words) is not None


def _missing_stories(run: RunDocument) -> list[str]:
    """What a run that says done lacks: that all its stories, and it must be known how many, are verified."""
    counts, total = run["counts"], run["total_stories"]
    missing = []
    if run["prd_success"] is None and run["run_success"] is None:
        missing.append("whether it succeeded was not said")
    missing += _claims(run)
    unnamed = counts["claimed"] - len(run["claims"])
    if unnamed > 0:
        missing.append(f"{_stories(unnamed)} more without proof")
    missing += _undone(run)
    if not run["stories"]:
        missing.append("no story was reported")
    elif total is None:
        missing.append("how many stories there are was not said")
    test = run["last_test"]
    if test is not None and test["story_id"] is None and test["failed"]:  # else its story says so
        missing.append(f"last test run had {test['failed']} failing")
    return missing


def _undone(run: RunDocument) -> list[str]:
    counts = run["counts"]
    numbers = {
        "failing": counts["failing"],
        "blocked": counts["blocked"],
        "still running": counts["running"],
        "not started": counts["todo"],
    }
    return [f"{_stories(number)} {words}" for words, number in numbers.items() if number]


def _claims(run: RunDocument) -> list[str]:
    """``US-001, US-003: no commit``: stories that lack the same are named together."""
    lacking: dict[str, list[str]] = {}
    for claim in run["claims"]:
        lacking.setdefault(", ".join(claim["why"]), []).append(claim["story_id"])
    return [f"{', '.join(stories)}: {why}" for why, stories in lacking.items()]


def _stories(number: int) -> str:
    return "1 story" if number == 1 else f"{number} stories"


def judge_session(session: SessionDocument) -> SessionState:
    """The state of an agent's session. Idle is not waiting: nobody was asked for anything."""
    if session["ended_at"] is not None:
        return "ended"
    if session["waiting"] is not None:
        return "waiting"
    if session["retrying"] is not None:
        return "retrying"
    if session["compacting_since"] is not None:
        return "compacting"
    return "idle" if session["idle"] else "running"


def doing_of(session: SessionDocument) -> str | None:
    """What the agent is doing, in one line; None when it does nothing."""
    if session["ended_at"] is not None:
        return None
    if session["retrying"] is not None:
        return f"trying again after {session['retrying']['error']}"
    if session["compacting_since"] is not None:
        return "compacting its context"
    if session["open_calls"]:
        call = session["open_calls"][-1]
        return call["tool"] if call["summary"] is None else f"{call['tool']} {call['summary']}"
    return None if session["idle"] or session["waiting"] is not None else "thinking"

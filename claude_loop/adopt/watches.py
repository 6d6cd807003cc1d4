"""What the daemon finds out by itself about wrapped runs: their commits and their plans."""

from __future__ import annotations

from pathlib import Path

from claude_loop.adopt.git_watch import GitWatch
from claude_loop.adopt.prd_watch import PrdWatch
from claude_loop.adopt.wrapped_runs import Tidy, WrappedRuns
from claude_loop.clock import Clock
from claude_loop.hub import Hub
from claude_loop.supervision import TaskOwner


def watch_wrapped_runs(tasks: TaskOwner, hub: Hub, runs: Path, clock: Clock, tidy: Tidy) -> None:
    """Start both watches. ``runs`` is where the wrapper leaves a directory for each run."""
    # Each has its own list: one may be through with a run that the other must still look at.
    git = GitWatch(hub, WrappedRuns(hub, runs, clock), clock, tidy)
    plans = PrdWatch(hub, WrappedRuns(hub, runs, clock), clock, tidy, git.untold)
    tasks.spawn(git.run(), "commits of runs")
    tasks.spawn(plans.run(), "plans of runs")

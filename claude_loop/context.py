"""Where an emitter stands: project, PRD, story, run and session, from arguments, environment and directory.

Standard library only: the command line's `emit` imports it at every call.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# The variables a loop sets once for everything below it.
VARIABLES = {
    "project": "CLAUDE_LOOP_PROJECT",
    "prd_id": "CLAUDE_LOOP_PRD",
    "story_id": "CLAUDE_LOOP_STORY",
    "run_id": "CLAUDE_LOOP_RUN",
    "session_id": "CLAUDE_LOOP_SESSION",
}


def project_name(directory: Path) -> str | None:
    """The name of the nearest directory upwards that has a ``.git``, else of ``directory``; None for the root."""
    for candidate in (directory, *directory.parents):
        if (candidate / ".git").exists():
            return candidate.name or None
    return directory.name or None


def inherited(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The ids an event gets when its emitter names none. An empty variable counts as unset."""
    ids = {key: environ.get(variable) or None for key, variable in VARIABLES.items()}
    if ids["project"] is None:
        try:
            ids["project"] = project_name(Path.cwd())
        except FileNotFoundError:  # the current directory was removed: no name to be had
            ids["project"] = None
    return ids


def silenced(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``CLAUDE_LOOP_DISABLE=1`` turns every emitter off."""
    return environ.get("CLAUDE_LOOP_DISABLE", "") not in ("", "0")

"""The last words of a run. Nobody is told when they cannot be written: the daemon then sees that we are gone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from claude_loop.context import VARIABLES
from claude_loop.paths import Home, open_private
from claude_loop.run_files import END_JSON
from claude_loop.spool_writer import SpoolWriter
from claude_loop.wrapper.child import exit_code


def report(directory: str, status: int, duration_ms: int, lost: int) -> None:
    """``run.completed`` through the spool, and ``end.json``."""
    code = exit_code(status)
    end: dict[str, Any] = {"exit_code": code, "duration_ms": duration_ms}
    if os.WIFSIGNALED(status):
        end["signal"] = os.WTERMSIG(status)
    ids = {key: os.environ.get(VARIABLES[key]) for key in ("project", "prd_id", "run_id")}
    try:
        SpoolWriter(_home_of(directory), "run").emit("run.completed", {"success": code == 0, **end}, **ids)
    except OSError as failure:  # the disk is full, say; the file below may still fit
        end["not_emitted"] = failure.strerror
    if lost:
        end["lost"] = lost
    try:
        _write(Path(directory) / END_JSON, {**end, "ended_at": time.time_ns() // 1000})
    except OSError:
        return


def _home_of(directory: str) -> Home:
    return Home(Path(directory).parent.parent)


def _write(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    descriptor = open_private(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, json.dumps(value).encode())
    finally:
        os.close(descriptor)
    unfinished.replace(path)

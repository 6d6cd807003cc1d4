"""What the checks look at, gathered once: where things are, what the settings say, and how the daemon answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_loop.client import DaemonClient
from claude_loop.clock import Clock, SystemClock
from claude_loop.errors import ClaudeLoopError, SettingsRefused
from claude_loop.instance import DaemonNote, is_running
from claude_loop.launch import noted_pid
from claude_loop.paths import Home
from claude_loop.settings import Settings, load_settings

# One that takes longer hangs, as far as anybody who uses it can tell.
ANSWER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon of this home. ``status`` is its answer; without one ``failure`` says why not."""

    runs: bool
    pid: int | None = None
    note: DaemonNote | None = None
    status: Mapping[str, Any] | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    home: Home
    environ: Mapping[str, str]
    directory: Path
    """Where the person stands."""
    settings: Settings | SettingsRefused
    daemon: Daemon
    clock: Clock


def look_around(home: Home, environ: Mapping[str, str], directory: Path) -> Scene:
    settings: Settings | SettingsRefused
    try:
        settings = load_settings()
    except SettingsRefused as refusal:
        settings = refusal
    return Scene(home, environ, directory, settings, _daemon(home), SystemClock())


def _daemon(home: Home) -> Daemon:
    """Asked over its Unix socket: a connection to the port might make systemd start one."""
    note = DaemonNote.read(home)
    try:
        if not is_running(home):
            return Daemon(runs=False, note=note)
    except OSError as failure:
        return Daemon(runs=False, note=note, failure=f"{home.daemon_lock}: {failure.strerror}")
    try:
        status = DaemonClient(home).get("/status", timeout=ANSWER_SECONDS)
        return Daemon(runs=True, pid=noted_pid(home), note=note, status=status)
    except ClaudeLoopError as failure:
        return Daemon(runs=True, pid=noted_pid(home), note=note, failure=failure.message)

"""Scenes for the checks of `doctor`: a home of the test's own, and whatever the daemon is to answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_loop.clock import SystemClock
from claude_loop.doctor.finding import Check, Finding
from claude_loop.doctor.scene import Daemon, Scene
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home
from claude_loop.settings import load_settings

NO_DAEMON = Daemon(runs=False)


def scene(daemon: Daemon = NO_DAEMON, environ: Mapping[str, str] | None = None, **settings: Any) -> Scene:
    """Of the test's home, with these settings."""
    return Scene(
        home=Home.from_environment(),
        environ=os.environ if environ is None else environ,
        directory=Path.cwd(),
        settings=load_settings(**settings),
        daemon=daemon,
        clock=SystemClock(),
    )


def prepared() -> Home:
    home = Home.from_environment()
    home.prepare()
    return home


def answering(**status: Any) -> Daemon:
    """A daemon that runs and answers so."""
    healthy = {"status": "healthy", "pid": 4711, "url": "http://127.0.0.1:18790"}
    note = DaemonNote(4711, "http://127.0.0.1:18790", "0.1.0", "2026-01-26T12:00:00.000Z")
    return Daemon(runs=True, pid=4711, note=note, status=healthy | status)


def findings(check: Check, where: Scene) -> list[Finding]:
    return list(check(where))


def only(check: Check, where: Scene) -> Finding:
    (finding,) = check(where)
    return finding

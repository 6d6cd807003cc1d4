"""`demo`: a small PRD worked through for real, told by `tail`'s own output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import click

from claude_loop import resources
from claude_loop.cli.follow import follow
from claude_loop.cli.printer import Printer
from claude_loop.cli.terminal import note
from claude_loop.client import DaemonClient
from claude_loop.errors import NotSupported
from claude_loop.instance import DaemonNote
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

PROJECT, PRD = "demo", "DEMO-1"


@click.command()
def demo() -> None:
    """Work through a small PRD for real, shown live.

    A script writes code in a new git repository, runs its tests and commits; every step shows here as it
    happens. Takes about half a minute and leaves the daemon running.
    """
    for tool in ("bash", "git"):
        if shutil.which(tool) is None:
            raise NotSupported(f"The demo needs {tool}, which is not installed.", hint=f"Install {tool} and try again.")
    home = Home.from_environment()
    client = DaemonClient(home)
    started = ensure_running(home, client)
    directory = Path(tempfile.mkdtemp(prefix="claude-loop-demo-"))
    note(f"The daemon {'was started' if started else 'is running'}. Three stories are now worked on in {directory}")
    note("by examples/prd_loop.sh: real code, real tests, real commits. This is what `claude-loop tail` shows:\n")
    status = _narrate(home, client, directory)
    note(_where_to_look(home, directory))
    sys.exit(status)


def _narrate(home: Home, client: DaemonClient, directory: Path) -> int:
    """Run the loop and print its events until its last one. Returns the exit status."""
    cursor = client.get("/status")["log"]["cursor"]
    log = directory.with_name(f"{directory.name}.log")
    with log.open("wb") as output:
        loop = subprocess.Popen(  # noqa: S603 - our own example
            ["bash", str(resources.examples() / "prd_loop.sh"), str(directory)],  # noqa: S607 - checked to be there
            env=os.environ
            | {
                "CLAUDE_LOOP_HOME": str(home.root),
                "CLAUDE_LOOP_PROJECT": PROJECT,
                "CLAUDE_LOOP_PRD": PRD,
                "CLAUDE_LOOP_EMITTER": str(resources.emitter()),
                "PYTHON": sys.executable,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    watch = threading.Thread(target=_report_early_end, args=(loop, log), daemon=True)
    watch.start()
    printer = Printer(client, sys.stdout, as_json=False, quiet=False)
    for event_json in follow(client, {"project": PROJECT, "prd_id": PRD}, {"from": cursor}, printer):
        if printer.show(event_json)["type"] == "prd.completed":
            break
    return loop.wait(timeout=30)


def _report_early_end(loop: subprocess.Popen[bytes], log: Path) -> None:
    """A loop that fails emits no last event: without a word the demo would wait for it for ever."""
    if loop.wait() != 0:
        note(f"claude-loop: the demo's loop failed:\n{log.read_text(errors='replace')[-2000:]}")
        os._exit(1)


def _where_to_look(home: Home, directory: Path) -> str:
    daemon = DaemonNote.read(home)
    url = daemon.url if daemon else "http://127.0.0.1:18790"
    command = _command()
    return f"""
That was a real loop; its repository is in {directory}. Now look at it:
  {command} show {PRD}            each story with its attempts, tests and commits
  {command} tail                   events as they happen
  {url}/api/prds   the same as JSON
Report from a script of your own:
  source {json.dumps(str(resources.emitter()))}
  emit_story_started MY-PRD US-001
The daemon stays up, so that nothing is missed. To stop it:
  {command} down"""


def _command() -> str:
    """How this person calls us: by name where it is on the PATH, else by the clone's path."""
    if shutil.which("claude-loop"):
        return "claude-loop"
    root = resources.clone()
    return str(root / "bin" / "claude-loop") if root else "claude-loop"

"""`demo`: a small PRD worked through for real, told by `tail`'s own output."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from claude_loop import resources
from claude_loop.cli import FAILED, INTERRUPTED
from claude_loop.cli.follow import follow
from claude_loop.cli.printer import Printer
from claude_loop.cli.read_model import ReadModel
from claude_loop.cli.terminal import note, put
from claude_loop.client import DaemonClient
from claude_loop.errors import NotSupported
from claude_loop.instance import DaemonNote
from claude_loop.launch import ensure_running
from claude_loop.paths import Home

PROJECT, PRD = "demo", "DEMO-1"
# The last event comes with the loop's end, or a moment later.
_LAST_EVENT_SECONDS = 15.0


@click.command()
def demo() -> None:
    """Work through a small PRD for real, shown live.

    A script writes code in a new git repository, runs its tests and commits; every step shows here as it happens.
    Takes about ten seconds and leaves the daemon running.
    """
    for tool in ("bash", "git"):
        if shutil.which(tool) is None:
            raise NotSupported(f"The demo needs {tool}, which is not installed.", hint=f"Install {tool} and try again.")
    home = Home.from_environment()
    client = DaemonClient(home)
    started = ensure_running(home, client, note)
    directory = Path(tempfile.mkdtemp(prefix="claude-loop-demo-"))
    put(f"""The daemon {"was started" if started else "is running"}. Three stories are now worked on in {directory}
by {resources.examples() / "prd_loop.sh"}: real code, real tests, real commits.
This is what `claude-loop tail` shows:
""")
    status = _narrate(home, client, directory)
    put(_where_to_look(home, directory))
    sys.exit(status)


def _narrate(home: Home, client: DaemonClient, directory: Path) -> int:
    """Run the loop and print its events until its last one. Returns the exit status."""
    cursor = client.get("/status")["log"]["cursor"]
    narrator = Narrator(client, cursor)
    with tempfile.TemporaryFile() as output, _loop(home, directory, output) as loop:
        narrator.start()
        status = loop.wait()
        narrator.join(_LAST_EVENT_SECONDS)
        if status:
            output.seek(0)
            note(f"claude-loop: the demo's loop failed:\n{output.read().decode(errors='replace')[-2000:]}")
    if narrator.failure is not None:
        raise narrator.failure
    return FAILED if status or narrator.is_alive() else 0


class Narrator(threading.Thread):
    """Prints the events of the demo behind ``cursor`` as they come. Ends with the PRD, or with ``failure``."""

    def __init__(self, client: DaemonClient, cursor: str) -> None:
        super().__init__(name="narrator", daemon=True)
        self._client = client
        self._cursor = cursor
        self.failure: Exception | None = None

    def run(self) -> None:
        printer = Printer(ReadModel(self._client), sys.stdout)
        query = {"project": PROJECT, "prd_id": PRD}
        try:
            for event_json in follow(self._client, query, {"from": self._cursor}, printer):
                if printer.show(event_json)["type"] == "prd.completed":
                    return
        except Exception as failure:  # noqa: BLE001 - raised again where it can be told
            self.failure = failure


@contextlib.contextmanager
def _loop(home: Home, directory: Path, output: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The running loop. However the block ends, by a signal too, nothing of it stays."""

    def end(number: int, _frame: object) -> None:
        sys.exit(INTERRUPTED - signal.SIGINT + number)

    before = signal.signal(signal.SIGTERM, end), signal.signal(signal.SIGHUP, end)
    loop = subprocess.Popen(  # noqa: S603 - our own example
        ["bash", str(resources.examples() / "prd_loop.sh"), str(directory)],  # noqa: S607 - checked to be there
        env=_environment(home),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a group of its own, to be ended as one
    )
    try:
        yield loop
    except KeyboardInterrupt:
        note(f"Interrupted. The daemon stays up; `{_command()} down` stops it.")
        raise
    finally:
        if loop.poll() is None:
            os.killpg(loop.pid, signal.SIGTERM)
            loop.wait()
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


def _environment(home: Home) -> dict[str, str]:
    """Ours, without what would lead git, bash or the emitter to other places than the demo's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "CLAUDE_LOOP_", "BASH_"))}
    return kept | {
        "CLAUDE_LOOP_HOME": str(home.root),
        "CLAUDE_LOOP_PROJECT": PROJECT,
        "CLAUDE_LOOP_PRD": PRD,
        "CLAUDE_LOOP_EMITTER": str(resources.emitter()),
        # Hooks, templates and signing are for the person's own work.
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHON": sys.executable,
    }


def _where_to_look(home: Home, directory: Path) -> str:
    daemon = DaemonNote.read(home)
    command = _command()
    shown = [
        (f"{command} open", "the same in the browser, live and as a replay"),
        (f"{command} show {PRD}", "each story with its attempts, tests and commits"),
        (f"{command} tail", "events as they happen, of every loop"),
        (f"git -C {shlex.quote(str(directory))} log --stat", "what was committed"),
    ]
    if daemon is not None and daemon.url:
        shown.append((f"{daemon.url}/api/prds", "the same as JSON"))
    width = max(len(what) for what, _ in shown)
    look = "\n".join(f"  {what.ljust(width)}  {why}" for what, why in shown)
    return f"""
That was a real loop. Look at it again:
{look}
Report from a script of your own:
  source {shlex.quote(str(resources.emitter()))}
  emit_story_started MY-PRD US-001
The daemon stays up, for every loop of yours. To stop it:
  {command} down"""


def _command() -> str:
    """How this person calls us: by name where that leads here, else by path."""
    clone = resources.clone()
    ours = clone / "bin" / "claude-loop" if clone else Path(sys.prefix) / "bin" / "claude-loop"
    named = shutil.which("claude-loop")
    if named is not None and Path(named).resolve() == ours.resolve():
        return "claude-loop"
    if clone is not None and Path.cwd() == clone:
        return "bin/claude-loop"
    return shlex.quote(str(ours))

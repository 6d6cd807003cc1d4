"""The examples that are started by hand do what their first lines say, against one daemon."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_loop.client import DaemonClient
from tests.e2e.daemon import Daemon, shared_daemon
from tests.requirements import NODE_FOLDER, find_node
from tests.support import PATIENCE, ROOT, until

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.requires("linux")  # its own user's connections need no token there
# In place of an agent and its tests: in one PRD they commit and pass, in the other they fail.
MAKE = """#!/bin/sh
[ "$CLAUDE_LOOP_PRD" = EX-1 ] || { echo "cart broke" >&2; exit 1; }
exec git -c user.name=Ada -c user.email=ada@example.com -c commit.gpgsign=false commit -q --allow-empty -m "Cart totals"
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with shared_daemon() as one:
        yield one


def card(daemon: Daemon, prd: str) -> dict[str, Any] | None:
    cards = DaemonClient(daemon.home).get("/api/prds")["prds"]
    return next((each for each in cards if each["prd_id"] == prd), None)


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def coordinate(daemon: Daemon, folder: Path, *prds: str) -> subprocess.CompletedProcess[str]:
    """`coordinator.sh` with its workers, in a repository of its own."""
    programs, repository = folder / "bin", folder / "work"
    programs.mkdir()
    executable(programs / "make", MAKE)
    executable(programs / "claude-loop", f'#!/bin/sh\nexec "{sys.executable}" -m claude_loop "$@"\n')
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    environ = daemon.environ | {
        "PATH": f"{programs}:{ROOT / 'bin'}:{daemon.environ['PATH']}",
        "CLAUDE_LOOP_PRD": "EX-1",
    }
    subprocess.run([programs / "make"], cwd=repository, env=environ, check=True)
    return subprocess.run(
        ["bash", str(EXAMPLES / "coordinator.sh"), *prds],
        cwd=repository, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_coordinator_and_its_workers_report_what_became_of_each_prd(daemon: Daemon, tmp_path: Path):
    done = coordinate(daemon, tmp_path, "EX-1", "EX-2")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    until(lambda: (each := card(daemon, "EX-1")) and each["state"] == "done·verified", PATIENCE, "EX-1 is verified")
    until(lambda: (each := card(daemon, "EX-2")) and each["state"] == "failed", PATIENCE, "EX-2 has failed")
    (first, second) = (card(daemon, prd) or {} for prd in ("EX-1", "EX-2"))
    assert first["last_commit"]["subject"] == "Cart totals"
    assert (second["counts"]["failing"], second["last_test"]["failing"]) == (1, ["make test"])
    assert {error["error"] for error in second["recent_errors"]} == {"cart broke", "worker ended with status 1"}


@contextmanager
def started(command: list[str], folder: Path, daemon: Daemon) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A client, and what it prints."""
    printed = folder / "printed"
    with printed.open("wb") as out:
        client = subprocess.Popen(
            command, cwd=folder, env=daemon.environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield client, printed
    finally:
        if client.poll() is None:
            client.kill()
        client.wait()


def follows(client: subprocess.Popen[bytes], printed: Path, daemon: Daemon, prd: str, greeting: str) -> None:
    """It shows what was there, and what comes while it is connected."""

    def shown(words: str) -> bool:
        assert client.poll() is None, printed.read_text()
        return words in printed.read_text()

    until(lambda: shown(greeting) and shown("US-BEFORE"), PATIENCE, "the client shows what was there")
    emit(daemon, prd, "US-AFTER")
    until(lambda: shown("US-AFTER"), PATIENCE, "the client shows what comes")


def emit(daemon: Daemon, prd: str, story: str) -> None:
    DaemonClient(daemon.home).post("/api/events", {"type": "story.started", "prd_id": prd, "story_id": story})


def test_the_python_client_follows_a_prd_until_it_is_interrupted(daemon: Daemon, tmp_path: Path):
    emit(daemon, "EX-3", "US-BEFORE")
    script = str(EXAMPLES / "websocket_client.py")
    command = [sys.executable, script, "--url", daemon.url, "--prd", "EX-3", "--history", "5"]
    with started(command, tmp_path, daemon) as (client, printed):
        follows(client, printed, daemon, "EX-3", "connected to claude-loop")
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 0, printed.read_text()


@pytest.mark.requires("node")
def test_nodes_client_follows_from_its_cursor(daemon: Daemon, tmp_path: Path):
    emit(daemon, "EX-4", "US-BEFORE")
    # Modules are looked for beside the file.
    (tmp_path / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    shutil.copy(EXAMPLES / "node_client.mjs", tmp_path)
    command = [str(find_node()), "node_client.mjs", daemon.url]
    with started(command, tmp_path, daemon) as (client, printed):
        follows(client, printed, daemon, "EX-4", "-- ")

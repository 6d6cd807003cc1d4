"""`doctor` beside a real daemon: well, outdated, killed, and on a port that somebody else has."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.support import free_port, until


@pytest.fixture
def daemon(home: Path, tmp_path: Path) -> Iterator[Daemon]:
    port = str(free_port())
    one = Daemon(home, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), CLAUDE_LOOP_PORT=port)
    one.port = int(port)
    yield one
    if one.process is not None:
        one.stop()


def examined(daemon: Daemon) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """The status, and what is not well by check."""
    done = daemon.run("doctor", "--json")
    found: dict[str, list[tuple[str, str]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        if one["level"] != "ok" and not one["check"].startswith("command."):
            found.setdefault(one["check"], []).append((one["level"], one["sentence"]))
    return done.returncode, found


def test_a_daemon_that_is_well(daemon):
    daemon.start()
    assert examined(daemon) == (0, {})


def test_a_daemon_that_was_killed_and_what_it_left(daemon):
    daemon.start()
    daemon.kill()
    status, found = examined(daemon)
    assert status == 0
    assert f"pid {daemon.pid} crashed" in found["daemon"][0][1]
    assert not list(daemon.home.root.glob("up.lock")), "nothing was started"


def test_a_daemon_that_hangs(daemon):
    daemon.start()
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        status, found = examined(daemon)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert status == 1
    assert found["daemon"][0][0] == "problem"


def test_a_port_that_somebody_else_has(daemon):
    with socket.create_server(("127.0.0.1", daemon.port)):
        status, found = examined(daemon)
    assert status == 1
    assert f"process {os.getpid()}" in found["port"][0][1]


def test_spooled_lines_that_are_no_events_and_events_that_prove_nothing(daemon):
    daemon.start()
    bare = json.dumps({"type": "test.run", "prd_id": "P", "story_id": "S", "data": {"passed": "canary"}})
    (daemon.home.spool / "garbage.jsonl").write_text(f"\n{bare}\n\nnot JSON\n")
    until((daemon.home.rejected / "lines.jsonl").exists)
    status, found = examined(daemon)
    assert status == 0
    assert "1 spooled line was rejected, last: garbage.jsonl." in found["spool.rejected"][0][1]
    ((level, said),) = found["events.invalid"]
    assert level == "warning"
    assert said.startswith("1 event of type test.run is marked `_invalid` and proves nothing: ")
    assert "passed" in said
    assert "canary" not in said

"""`service install` beside a daemon that runs: it is handed over. A script stands in for systemd's manager."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.instance import DaemonNote
from tests.e2e.daemon import Daemon
from tests.support import ROOT, alive, kill

SYSTEMCTL = f"""#!/bin/sh
case "$2" in
  start) cd {ROOT} && {sys.executable} -m claude_loop serve >/dev/null 2>&1 </dev/null & ;;
esac
"""


@pytest.fixture
def daemon(home: Path, tmp_path: Path) -> Iterator[Daemon]:
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL)
    program.chmod(0o755)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    path = f"{program.parent}:{os.environ['PATH']}"
    one = Daemon(home, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path), PATH=path)
    one.environ["CLAUDE_LOOP_PORT"] = str(one.port)
    one.start()
    yield one
    one.stop()
    note = DaemonNote.read(one.home)
    if note is not None and alive(note.pid):
        kill(note.pid)


@pytest.mark.requires("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_what_was_installed(daemon, tmp_path):
    daemon.stop()
    assert daemon.run("service", "install").returncode == 0
    units = sorted((tmp_path / "systemd" / "user").glob("claude-loop.*"))
    assert len(units) == 3
    command = ["systemd-analyze", "verify", "--user", "--man=no", *map(str, units)]
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_running_daemon_is_stopped_and_started_by_systemd(daemon):
    done = daemon.run("service", "install")
    assert done.returncode == 0, done.stderr
    assert daemon.process.wait(30) == 0
    note = DaemonNote.read(daemon.home)
    assert note is not None
    assert note.pid != daemon.pid
    assert daemon.run("status").returncode == 0

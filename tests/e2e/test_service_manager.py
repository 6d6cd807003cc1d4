"""`service install`, `up` and `down` with a real user manager of systemd, in a mount namespace of its own.

Its own `/run` makes systemd believe that it has booted the machine; what it mounts and starts ends with the test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.build import full_version
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home
from tests.e2e.daemon import clean_environment
from tests.support import ROOT, free_port, until

# The service sees no /tmp of others, where this test's directories are, and perhaps the clone.
OVERRIDE = "[Service]\nPrivateTmp=no\nPrivateUsers=no\nExecStart=\nExecStart={program} serve\n"
PROGRAM = '#!/bin/sh\ncd / && PYTHONPATH=$(readlink {place}) exec {python} -m claude_loop "$@"\n'
SYSTEMD = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec /lib/systemd/systemd --user"


class Manager:
    """The manager of a person whose unit starts the code that ``place`` leads to."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.home, self.place = Home(state), folder / "place"
        config, runtime = folder / "config", state.with_name("run")
        override = config / "systemd" / "user" / "claude-loop.service.d" / "override.conf"
        program = folder / "program"
        for directory in (override.parent, runtime, config / "claude-loop"):
            directory.mkdir(parents=True, mode=0o700)
        program.write_text(PROGRAM.format(place=self.place, python=sys.executable))
        program.chmod(0o755)
        override.write_text(OVERRIDE.format(program=program))
        (config / "claude-loop" / "config.toml").write_text(f"port = {free_port()}\n")
        names = {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(config), "HOME": str(folder)}
        self.environ = clean_environment(state) | names
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SYSTEMD],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until((runtime / "systemd" / "private").exists, 30)
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "claude_loop", *arguments]
        done = subprocess.run(
            command, env=self.environ, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def asked(self, *arguments: str) -> str:
        command = ["systemctl", "--user", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60, check=False).stdout

    def starts(self, code: Path) -> None:
        fresh = self.place.with_name("fresh")
        fresh.symlink_to(code)
        fresh.replace(self.place)


@pytest.fixture
def manager(home: Path, tmp_path: Path) -> Iterator[Manager]:
    one = Manager(home, tmp_path)
    yield one
    one.process.terminate()  # it ends what it started, then itself
    one.process.wait(60)


@pytest.fixture
def other_build(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    shutil.copytree(ROOT / "claude_loop", folder / "claude_loop")
    with (folder / "claude_loop" / "daemon.py").open("a") as module:
        module.write("# another build\n")
    return folder


@pytest.mark.requires("user-manager")
def test_installed_started_replaced_and_removed(manager, other_build):
    assert "the first connection or event starts the daemon" in manager.run("service", "install")
    assert "claude-loop.socket: installed, active, enabled" in manager.run("service", "status")
    manager.starts(other_build)
    assert "another copy" in manager.run("up")
    former = DaemonNote.read(manager.home)
    assert former is not None
    manager.starts(ROOT)
    assert "took its place" in manager.run("up")
    note = DaemonNote.read(manager.home)
    assert note is not None
    assert note.version == full_version() != former.version
    assert json.loads(manager.run("status", "--json"))["status"] == "healthy"
    assert manager.asked("is-active", "claude-loop.service", "claude-loop.socket").split() == ["active", "active"]
    assert "already runs" in manager.run("up")
    manager.run("down")
    assert manager.asked("is-active", "claude-loop.service", "claude-loop.socket").split() == ["inactive", "inactive"]
    assert "removed" in manager.run("service", "uninstall")
    assert not os.listdir(manager.home.spool)

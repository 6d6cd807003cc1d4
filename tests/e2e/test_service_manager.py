"""`service install`, `up` and `down` with a real user manager of systemd; what it mounts and starts ends with the test."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.build import full_version
from claude_loop.instance import DaemonNote
from claude_loop.unit_files import SERVICE
from tests.e2e.daemon import Daemon
from tests.e2e.user_manager import UserManager
from tests.support import ROOT, until


@pytest.fixture
def manager(home: Path, tmp_path: Path) -> Iterator[UserManager]:
    one = UserManager(home, tmp_path)
    yield one
    one.end()


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


@pytest.mark.requires("user-manager")
def test_the_unit_waits_for_a_daemon_that_was_started_by_hand_and_takes_its_place(manager):
    manager.starts(ROOT)
    manager.run("service", "install")
    units = ("claude-loop.service", "claude-loop.path", "claude-loop.socket")
    with Daemon(manager.home.root, **manager.names) as by_hand:  # on a port of its own
        assert by_hand.run("emit", "note.made").returncode == 0
        until(lambda: manager.asked("show", "--property=StatusText", "--value", SERVICE).startswith("waiting"))
        assert manager.asked("is-active", *units).split() == ["activating", "active", "active"]
    until(lambda: manager.asked("is-active", *units).split() == ["active"] * 3)
    note = DaemonNote.read(manager.home)
    assert note is not None
    assert str(note.pid) == manager.asked("show", "--property=MainPID", "--value", SERVICE).strip() != str(by_hand.pid)
    manager.run("down")


@pytest.mark.requires("user-manager")
def test_a_manager_kills_nothing_of_another_that_runs_beside_it(manager, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    other = UserManager(folder / "home", folder)
    try:
        for one in (manager, other):
            units = Path(one.names["XDG_CONFIG_HOME"], "systemd", "user")
            (units / "same.service").write_text("[Service]\nExecStart=sleep 1000\n")
            one.asked("daemon-reload")
            one.asked("start", "same.service")
        manager.asked("stop", "same.service")
        assert manager.asked("is-active", "same.service").strip() == "inactive"
        assert other.asked("is-active", "same.service").strip() == "active"
    finally:
        other.end()

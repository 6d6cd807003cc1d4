"""`install` and `uninstall`, run as the command of a clone in a home directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


class Machine:
    """A person's home directory, and a clone in it that has what `install` looks at."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.local = self.home / ".local" / "bin"
        self.home.mkdir()
        self.path = os.environ["PATH"]

    def run(self, command: str, source: Path = ROOT) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "claude_loop", command],
            env={"HOME": str(self.home), "PATH": self.path, "PYTHONPATH": str(source)},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    def links(self) -> dict[str, str]:
        return {entry.name: os.readlink(entry) for entry in self.local.iterdir() if entry.is_symlink()}


OURS = {name: str(ROOT / "bin" / name) for name in ("claude-loop", "claude-loop-hook", "emit_progress.sh")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_both_commands_are_linked_and_again_is_no_fault(machine):
    assert machine.run("install")[0] == 0
    assert machine.links() == OURS
    status, words = machine.run("install")
    assert (status, machine.links()) == (0, OURS)
    assert "already" in words


def test_a_link_that_is_missing_is_made_beside_one_that_is_there(machine):
    machine.run("install")
    (machine.local / "claude-loop").unlink()
    assert machine.run("install")[0] == 0
    assert machine.links() == OURS


def test_it_says_whether_the_links_are_found(machine):
    _, words = machine.run("install")
    assert "is not on PATH" in words
    assert 'export PATH="$HOME/.local/bin:$PATH"' in words

    machine.path = f"{machine.local}:{machine.path}"
    _, words = machine.run("install")
    assert "is on PATH:" in words

    earlier = machine.home / "earlier"
    earlier.mkdir()
    (earlier / "claude-loop").write_text("#!/bin/sh\n")
    (earlier / "claude-loop").chmod(0o755)
    machine.path = f"{earlier}:{machine.path}"
    _, words = machine.run("install")
    assert f"{earlier}/claude-loop comes first" in words


def unread(path):
    """All that `lstat` tells but the time of the last look, which looking changes."""
    found = path.lstat()
    return (
        found.st_mode,
        found.st_ino,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


@pytest.mark.parametrize("kind", ["file", "directory", "link elsewhere", "dangling link"])
def test_what_others_put_there_is_neither_replaced_nor_removed(machine, kind):
    machine.local.mkdir(parents=True)
    foreign = machine.local / "emit_progress.sh"
    match kind:
        case "file":
            foreign.write_text("mine")
        case "directory":
            foreign.mkdir()
        case "link elsewhere":
            foreign.symlink_to("/bin/sh")
        case "dangling link":
            foreign.symlink_to("/nowhere/claude-loop/bin/emit_progress.sh")
    before = unread(foreign)
    status, words = machine.run("install")
    assert status == 4
    assert str(foreign) in words
    assert os.listdir(machine.local) == ["emit_progress.sh"], "half an installation"
    status, words = machine.run("uninstall")
    assert status == 0
    assert f"left {foreign} alone" in words
    assert unread(foreign) == before


def test_uninstall_removes_its_own_links_only(machine):
    machine.run("install")
    (machine.local / "other").write_text("")
    status, _ = machine.run("uninstall")
    assert status == 0
    assert os.listdir(machine.local) == ["other"]
    status, words = machine.run("uninstall")
    assert status == 0
    assert "is not there" in words


def test_an_installed_copy_has_nothing_to_link(machine, tmp_path):
    installed = tmp_path / "site-packages"
    installed.mkdir()
    subprocess.run(["cp", "-r", str(ROOT / "claude_loop"), str(installed)], check=True)
    for command in ("install", "uninstall"):
        status, words = machine.run(command, installed)
        assert status == 0
        assert "installed by pip" in words
    assert not machine.local.exists()

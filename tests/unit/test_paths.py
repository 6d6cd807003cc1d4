import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_loop import paths
from claude_loop.errors import LinkedDirectory, UnsafeHome
from claude_loop.paths import Home, file_system_type, make_private, open_private


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"CLAUDE_LOOP_HOME": "/x/y"}, "/x/y"),
        ({"CLAUDE_LOOP_HOME": "/x/y", "XDG_STATE_HOME": "/z"}, "/x/y"),
        ({"XDG_STATE_HOME": "/z"}, "/z/claude-loop"),
        ({"XDG_STATE_HOME": "relative"}, None),
        ({"CLAUDE_LOOP_HOME": ""}, None),
        ({}, None),
    ],
)
def test_where_the_home_is(environ, root, monkeypatch):
    monkeypatch.setenv("HOME", "/home/u")
    assert str(Home.from_environment(environ).root) == (root or "/home/u/.local/state/claude-loop")


def test_prepare_makes_private_directories_and_mends_open_ones(tmp_path):
    home = Home(tmp_path / "a" / "home")
    home.prepare()
    home.root.chmod(0o755)
    home.spool.chmod(0o777)
    home.prepare()
    for directory in (home.root, home.spool, home.leaving, home.flush, home.rejected):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(UnsafeHome, match="not a directory"):
        Home(tmp_path / "home").prepare()


def test_a_home_of_somebody_else_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root: gives a directory away")
    home = Home(tmp_path / "home")
    home.prepare()
    os.chown(home.root, 12345, 12345)
    with pytest.raises(UnsafeHome, match="uid 12345"):
        home.prepare()


@pytest.mark.parametrize("name", ["spool", "leaving", "rejected", "flush"])
def test_a_directory_of_the_home_that_is_a_link_is_refused(tmp_path, name):
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LinkedDirectory, match=rf"{name} is a symbolic link") as refused:
        Home(tmp_path / "home").prepare()
    assert refused.value.code == "home_linked"
    assert "CLAUDE_LOOP_HOME" in refused.value.hint
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


def test_a_home_may_be_reached_through_a_link_of_ones_own(tmp_path):
    Home(tmp_path / "moved").prepare()
    (tmp_path / "home").symlink_to(tmp_path / "moved")
    Home(tmp_path / "home").prepare()


def test_a_home_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "file_system_type", lambda path: "nfs4")
    with pytest.raises(UnsafeHome, match="nfs4"):
        Home(tmp_path / "home").prepare()


def test_the_file_system_type_comes_from_the_mount_table(tmp_path):
    assert file_system_type(Path("/proc")) == "proc"
    assert file_system_type(tmp_path) not in (None, "proc")


def test_private_files_are_private_and_follow_no_link(tmp_path):
    descriptor = open_private(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    with pytest.raises(OSError):
        open_private(tmp_path / "link", os.O_WRONLY)


def test_a_private_file_that_is_there_is_left_as_it_is_and_a_link_refused(tmp_path):
    path = tmp_path / "f"
    make_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("kept")
    with path.open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        make_private(path)
        # Asked by another process: one's own locks are never in one's way.
        script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        asked = subprocess.run([sys.executable, "-c", script, path], check=False, capture_output=True, text=True)
    assert "BlockingIOError" in asked.stderr
    assert path.read_text() == "kept"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        make_private(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()

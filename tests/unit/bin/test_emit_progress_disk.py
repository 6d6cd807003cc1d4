"""The bash emitter where nothing can be written: silent, and the script goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.bin.bash_scripts import ALL_CALLS, bash, records

BOTH = pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
SCRIPT = f'set -euo pipefail; source "$1"; {ALL_CALLS}\nprintf "%s\\n" "the script goes on"'


def goes_on(mode: str, **env: str) -> None:
    ran = bash(SCRIPT, mode=mode, env=env)
    assert (ran.status, ran.out, ran.err) == (0, "the script goes on\n", "")


@BOTH
@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/x", "/proc", "/proc/x", "/nonexistent\n/x", "/" + "x" * 300])
def test_a_state_directory_that_cannot_be(mode, place):
    goes_on(mode, CLAUDE_LOOP_HOME=place)


@BOTH
@pytest.mark.parametrize("blocked", ["home", "spool"])
def test_a_file_where_a_directory_should_be(home, mode, blocked):
    if blocked == "home":
        home.touch()
    else:
        home.mkdir()
        (home / "spool").touch()
    goes_on(mode)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, ours alone. Removing the mount is all the cleaning up it needs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "claude-loop-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(512))
        except OSError:
            return


@pytest.mark.requires("tmpfs")
@BOTH
def test_a_full_disk(small_disk, mode):
    fill(small_disk)
    goes_on(mode, CLAUDE_LOOP_HOME=str(small_disk))


@pytest.mark.requires("tmpfs")
@BOTH
def test_a_disk_that_fills_up_and_is_freed_tears_one_record_at_most(small_disk, mode):
    """What is appended after a torn record stands on its own, and nothing of it comes out elsewhere."""
    script = """set -eu; source "$1"; home=$CLAUDE_LOOP_HOME; printf -v text '%*s' 900 ''
    for i in {1..100}; do emit_error P "S$i" "$text$i"; done
    rm "$home/ballast"; emit_error P last end; printf '%s\\n' only this
    emit_flush 0 || printf 'not all\\n'"""
    (small_disk / "ballast").write_bytes(bytes(20_000))
    ran = bash(script, mode=mode, env={"CLAUDE_LOOP_HOME": str(small_disk)})
    assert (ran.status, ran.out, ran.err) == (0, "only\nthis\nnot all\n", "")
    (file,) = (small_disk / "spool").iterdir()
    lines = [line for line in file.read_bytes().split(b"\n") if line]
    whole = [line for line in lines if line.startswith(b'{"id"') and line.endswith(b"}}")]
    assert len(lines) - len(whole) <= 1
    assert b'"story_id":"last"' in whole[-1]
    assert 10 < len(whole) < 100


@pytest.mark.requires("tmpfs")
@BOTH
def test_a_disk_that_is_read_only(small_disk, mode):
    (small_disk / "home").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    goes_on(mode, CLAUDE_LOOP_HOME=str(small_disk / "home"))
    goes_on(mode, CLAUDE_LOOP_HOME=str(small_disk / "new" / "home"))


@pytest.mark.requires("root", "linux")
@BOTH
def test_a_directory_of_somebody_else_gets_nothing(home, mode):
    """Its owner could replace our file by a link, and have the next record appended to any file of ours."""
    (home / "spool").mkdir(parents=True)
    os.chown(home / "spool", 12345, 12345)
    goes_on(mode)
    assert list((home / "spool").iterdir()) == []


@pytest.mark.requires("root", "linux")
def test_root_makes_no_state_directory_for_somebody_else(tmp_path):
    """sudo may keep HOME. A directory of root's would lock the user's daemon out."""
    os.chown(tmp_path, 12345, 12345)
    goes_on("bash-5", CLAUDE_LOOP_HOME="", HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requires("root", "linux")
def test_a_directory_without_permission(home):
    (home / "spool").mkdir(parents=True)
    (home / "spool").chmod(0o500)
    os.chown(home, 12345, 12345)
    os.chown(home / "spool", 12345, 12345)
    os.chmod(home.parent, 0o755)
    become = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    ran = bash(SCRIPT, prefix=become)
    assert (ran.status, ran.out, ran.err) == (0, "the script goes on\n", "")
    (home / "spool").chmod(0o700)
    assert bash(SCRIPT, prefix=become).err == ""
    assert len(records()) == 13


@pytest.mark.requires("strace", "linux")
def test_a_directory_that_cannot_be_made_is_tried_once(home):
    """Trying means starting a process. Once somebody else has made it, it is used."""
    home.touch()
    script = """source "$1"; emit_resumed P; emit_resumed P; (emit_resumed P); emit_resumed P
    rm "$2"; mkdir -p "$2/spool"; emit_resumed Q"""
    log = home.parent / "trace"
    ran = bash(script, str(home), prefix=("strace", "-f", "-e", "trace=execve", "-o", str(log)))
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert log.read_text().count('"mkdir", "-p", "--"') == 1
    assert [record["prd_id"] for record in records()] == ["Q"]

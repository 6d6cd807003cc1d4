import os
import subprocess
import sys
import threading

import pytest

from claude_loop.errors import AlreadyRunning
from claude_loop.instance import DaemonNote, InstanceLock, is_running
from claude_loop.paths import Home
from tests.support import ROOT

NOTE = DaemonNote(4711, "http://127.0.0.1:18790", "0.1.0", "2026-01-26T12:00:00.000Z")


@pytest.fixture
def prepared(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def test_the_note_reads_back_and_is_private(prepared):
    assert DaemonNote.read(prepared) is None
    NOTE.write(prepared)
    NOTE.write(prepared)
    assert DaemonNote.read(prepared) == NOTE
    assert prepared.daemon_json.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": "x"}', b'{"pid": 1}', b"\xff\xfe"])
def test_a_note_that_makes_no_sense_is_none(prepared, content):
    prepared.daemon_json.write_bytes(content)
    assert DaemonNote.read(prepared) is None


def test_a_note_that_is_a_pipe_is_not_waited_for(prepared):
    os.mkfifo(prepared.daemon_json)
    assert DaemonNote.read(prepared) is None


def test_the_second_daemon_is_told_who_the_first_is(prepared):
    first, second = InstanceLock(prepared), InstanceLock(prepared)
    assert not is_running(prepared)
    first.acquire()
    NOTE.write(prepared)
    assert is_running(prepared)
    with pytest.raises(AlreadyRunning, match=r"pid 4711, http://127\.0\.0\.1:18790"):
        second.acquire()
    first.release()
    assert not is_running(prepared)
    second.acquire()
    second.release()


def test_the_lock_ends_with_its_process_however_it_ends(prepared):
    code = "import sys; from pathlib import Path; from claude_loop.instance import InstanceLock; from claude_loop.paths import Home;"
    code += "InstanceLock(Home(Path(sys.argv[1]))).acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, prepared.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert is_running(prepared)
        holder.kill()
        holder.wait()
        assert not is_running(prepared)


def test_looking_does_not_keep_a_daemon_from_starting(prepared):
    """`is_running` takes the lock for an instant; a daemon that starts in that instant must not give up."""
    os.close(os.open(prepared.daemon_lock, os.O_CREAT | os.O_RDWR, 0o600))
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_running(prepared)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            lock = InstanceLock(prepared)
            lock.acquire()
            lock.release()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_planted_link_is_refused(prepared, tmp_path):
    prepared.daemon_lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        InstanceLock(prepared).acquire()
    assert not (tmp_path / "elsewhere").exists()

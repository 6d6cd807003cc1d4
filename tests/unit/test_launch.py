"""Starting and stopping a real daemon, and what goes wrong with it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop import launch
from claude_loop.client import DaemonClient
from claude_loop.errors import DaemonUnreachable
from claude_loop.instance import DaemonNote, InstanceLock, is_running
from claude_loop.launch import answers, daemon_pid, ensure_running, noted_pid, start, stop
from claude_loop.paths import Home
from tests.support import alive, until


@pytest.fixture
def state(home: Path, monkeypatch) -> Iterator[Home]:
    """A home whose daemon, if one runs at the end, is stopped."""
    monkeypatch.setenv("CLAUDE_LOOP_PORT", "0")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)  # the person's own units are none of this test's business
    monkeypatch.setattr(launch, "_NOTE_SECONDS", 0.2)
    yield Home(home)
    stop(Home(home), patience=0.5)


@pytest.fixture
def client(state: Home) -> DaemonClient:
    return DaemonClient(state)


def note(state: Home) -> DaemonNote:
    found = DaemonNote.read(state)
    assert found is not None
    return found


def test_start_and_stop(state, client):
    assert not answers(client)
    assert daemon_pid(state) is None
    assert start(state, client)
    pid = note(state).pid  # it is there as soon as `start` returns
    assert answers(client)
    assert daemon_pid(state) == pid
    assert not start(state, client)
    assert not ensure_running(state, client)
    assert daemon_pid(state) == pid
    assert stop(state) == "stopped"
    until(lambda: not alive(pid))
    assert stop(state) == "not running"
    assert not state.daemon_json.exists()


def test_all_who_start_at_once_get_the_same_daemon(state):
    started: list[bool] = []
    pids: list[int] = []

    def begin() -> None:
        started.append(start(state, DaemonClient(state)))
        pids.append(note(state).pid)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == [False, False, False, True]
    assert len(set(pids)) == 1


def test_what_a_crash_leaves_behind_is_in_nobodys_way(state, client):
    start(state, client)
    crashed = note(state).pid
    os.kill(crashed, signal.SIGKILL)
    until(lambda: not is_running(state))
    assert note(state).pid == crashed
    assert daemon_pid(state) is None
    assert stop(state) == "not running"
    assert start(state, client)
    assert note(state).pid != crashed


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_killed(state):
    state.prepare()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        DaemonNote(bystander.pid, "http://127.0.0.1:1", "0", "2026-01-26T12:00:00Z").write(state)
        assert stop(state) == "not running"
        lock = InstanceLock(state)
        lock.acquire()  # a daemon that has not written its own note yet
        assert daemon_pid(state) is None
        with pytest.raises(DaemonUnreachable) as failure:
            stop(state)
        assert "fuser" in failure.value.hint
        lock.release()
        assert alive(bystander.pid)
        bystander.stdin.close()


def test_a_daemon_that_hangs_is_killed_in_the_end(state, client):
    start(state, client)
    pid = note(state).pid
    os.kill(pid, signal.SIGSTOP)
    assert stop(state, patience=0.1) == "killed"
    assert not is_running(state)


def test_a_daemon_that_hangs_is_not_taken_for_an_answer(state, client, monkeypatch):
    start(state, client)
    os.kill(note(state).pid, signal.SIGSTOP)
    monkeypatch.setattr(launch, "_HEALTH_SECONDS", 0.05)
    monkeypatch.setattr(launch, "START_SECONDS", 0.1)
    with pytest.raises(DaemonUnreachable, match="does not answer") as failure:
        start(state, client)
    assert "claude-loop down" in failure.value.hint


def test_it_can_be_stopped_without_its_socket_and_without_its_note(state, client):
    start(state, client)
    state.socket.unlink()
    assert not answers(client)
    assert stop(state) == "stopped"
    start(state, client)
    state.daemon_json.unlink()
    assert daemon_pid(state) is not None
    assert stop(state) == "stopped"


def test_a_home_behind_a_link_is_the_same_home(state, client):
    link = state.root.with_name("link")
    start(state, client)
    link.symlink_to(state.root)
    assert daemon_pid(Home(link)) == note(state).pid


def test_a_failing_start_says_why_and_what_to_do(state, client, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("CLAUDE_LOOP_PORT", str(taken.getsockname()[1]))
        with pytest.raises(DaemonUnreachable) as failure:
            start(state, client)
        assert f"Port {taken.getsockname()[1]} on 127.0.0.1 is taken" in failure.value.message
        assert "CLAUDE_LOOP_PORT" in failure.value.hint
    assert not is_running(state)
    # The old failure is still in the log; the new one is told.
    monkeypatch.setenv("CLAUDE_LOOP_PORT", "many")
    with pytest.raises(DaemonUnreachable, match="CLAUDE_LOOP_PORT must be"):
        start(state, client)


def test_a_daemon_that_dies_without_a_word_points_to_its_log(state, client, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DaemonUnreachable, match=r"ended at once \(status 1\): it said nothing") as failure:
        start(state, client)
    assert str(state.daemon_log) in failure.value.hint


def test_stopping_waits_for_a_start_on_its_way(state, client, monkeypatch):
    said: list[str] = []
    stopper = threading.Thread(target=lambda: said.append(stop(state)))
    spawn = launch._spawn

    def slowly(*given):
        stopper.start()
        stopper.join(0.5)  # does it go on while the start has only begun?
        return spawn(*given)

    monkeypatch.setattr(launch, "_spawn", slowly)
    assert start(state, client)
    stopper.join()
    assert said == ["stopped"]
    assert not is_running(state)


def test_stopping_does_not_wait_for_a_start_that_hangs(state, client, monkeypatch):
    monkeypatch.setattr(launch, "_TURN_SECONDS", 0.05)
    start(state, client)
    with launch._holding(state.up_lock):
        assert stop(state) == "stopped"


def test_stopping_where_nothing_ever_ran_makes_nothing(state):
    assert stop(state) == "not running"
    assert not state.root.exists()


def test_a_start_that_is_given_up_lets_go_of_the_daemon_quietly(state, client, monkeypatch):
    monkeypatch.setattr(launch, "COLD_START_SECONDS", 0.0)
    with pytest.raises(DaemonUnreachable, match="does not answer"):
        start(state, client)
    gc.collect()  # of a process that is forgotten Python would warn here, which fails this test, or later, and another
    until(lambda: noted_pid(state))  # it goes on starting


def test_a_start_is_waited_for_while_it_is_under_way_and_said_to_be(state, client, monkeypatch):
    monkeypatch.setattr(launch, "START_SECONDS", 0.0)  # as on a machine on which it takes longer
    monkeypatch.setattr(launch, "TELL_SECONDS", 0.0)
    told: list[str] = []
    assert start(state, client, tell=told.append)
    assert told == ["claude-loop is still starting; waiting for it, up to 60 seconds."]
    stop(state)
    with pytest.raises(DaemonUnreachable, match="does not answer"):  # no start is under way
        launch.await_answer(state, client)


def test_a_start_that_meets_a_daemon_on_its_way_out_starts_another(state, client, monkeypatch):
    state.prepare()
    leaving = InstanceLock(state)
    leaving.acquire()  # it does not answer any more
    looked = threading.Event()
    asked = launch.answers

    def answers_and_tells(client):
        looked.set()
        return asked(client)

    monkeypatch.setattr(launch, "answers", answers_and_tells)
    release = threading.Thread(target=lambda: (looked.wait(), leaving.release()))
    release.start()
    assert start(state, client)
    release.join()
    assert is_running(state)


def test_a_daemon_that_is_stopped_while_it_starts_is_told_from_one_that_fails(state, client, monkeypatch):
    command = ["sh", "-c", "kill -TERM $$"]
    monkeypatch.setattr(launch, "_spawn", lambda home, arguments: subprocess.Popen(command))
    with pytest.raises(DaemonUnreachable, match="was stopped while it started"):
        start(state, client)


def test_a_large_log_is_put_aside(state, client, monkeypatch):
    monkeypatch.setattr(launch, "MAX_LOG_BYTES", 10)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    state.prepare()
    state.daemon_log.write_text("claude-loop: an old complaint\n")
    with pytest.raises(DaemonUnreachable, match="it said nothing"):
        start(state, client)
    assert state.daemon_log.with_suffix(".log.1").read_text() == "claude-loop: an old complaint\n"


def test_the_daemon_inherits_neither_a_service_manager_nor_a_loop(state, client, monkeypatch):
    for name, value in {"NOTIFY_SOCKET": "/run/nobody", "WATCHDOG_USEC": "1000000", "CLAUDE_LOOP_PRD": "P"}.items():
        monkeypatch.setenv(name, value)
    start(state, client)
    environment = Path(f"/proc/{note(state).pid}/environ").read_bytes().decode().split("\0")
    names = {entry.partition("=")[0] for entry in environment}
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "CLAUDE_LOOP_PRD"}
    assert f"CLAUDE_LOOP_HOME={state.root}" in environment


def test_it_is_not_started_where_that_is_not_wanted(state, client, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_AUTOSTART", "0")
    assert not ensure_running(state, client)
    monkeypatch.delenv("CLAUDE_LOOP_AUTOSTART")
    assert not ensure_running(state, DaemonClient(state, url="http://127.0.0.1:1"))
    assert not is_running(state)

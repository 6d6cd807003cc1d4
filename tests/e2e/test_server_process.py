"""The server as a process: how it is started, what signals do to it, what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from claude_loop.instance import DaemonNote, is_running
from claude_loop.paths import Home
from tests.e2e.daemon import Daemon, clean_environment, without_waiting
from tests.support import PATIENCE, ROOT, kill, until

# A stop takes five seconds at the most, and a loaded machine twice as long.
STOP_SECONDS = 10.0
MODULE = [sys.executable, "-m", "claude_loop.websocket_server"]


@contextmanager
def running(line: list[str], home: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended if the test does not."""
    environment = clean_environment(home) | environ
    with subprocess.Popen(
        line, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def note_of(process: subprocess.Popen[str], home: Path) -> DaemonNote:
    """The note of this very process, once it is there."""

    def look() -> DaemonNote | None:
        assert process.poll() is None, process.stderr.read()
        note = DaemonNote.read(Home(home))
        return note if note is not None and note.pid == process.pid else None

    return until(look)


def health(url: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:
        return json.load(answer)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Its status and what it said, within the time that a stop may take."""
    process.send_signal(number)
    begun = time.monotonic()
    said = process.communicate(timeout=20)
    assert time.monotonic() - begun < STOP_SECONDS
    return process.returncode, *said


def assert_left_in_order(home: Home) -> None:
    assert not is_running(home)
    assert not home.daemon_json.exists()
    assert not home.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_module_runs_a_server_until_a_signal(home, number):
    with running([*MODULE, "--host", "127.0.0.1", "--port", "0"], home) as process:
        note = note_of(process, home)
        assert health(note.url)["status"] == "healthy"
        status, out, err = end(process, number)
    assert (status, out) == (0, "")
    assert "Traceback" not in err
    assert_left_in_order(Home(home))


def test_the_module_starts_one_in_the_background(home):
    line = [*MODULE, "--port", "0", "--daemon"]
    environment = clean_environment(home)
    first = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    note = DaemonNote.read(Home(home))
    try:
        assert health(note.url)["status"] == "healthy"
        assert first.stdout == ""
        assert without_waiting(first.stderr) == f"claude-loop started at {note.url} (pid {note.pid}).\n"
        again = subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
        assert "already runs" in again.stderr
        assert DaemonNote.read(Home(home)) == note
    finally:
        kill(note.pid)
    assert_left_in_order(Home(home))


def test_what_keeps_it_from_starting_is_said_in_a_sentence_with_a_hint(home):
    with ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = str(taken.getsockname()[1])
        first = stack.enter_context(running([*MODULE, "--port", "0"], home))
        first_port = note_of(first, home).url.rpartition(":")[2]
        other = {"CLAUDE_LOOP_HOME": str(home.with_name("other"))}
        attempts = [
            (["--port", "0"], {}, f"pid {first.pid}"),
            (["--port", port], other, f"Port {port}"),
            (
                ["--port", first_port],
                {"CLAUDE_LOOP_HOME": str(home.with_name("fourth"))},
                f": the claude-loop daemon of {home}.",
            ),
            (["--port", "70000"], {}, "The setting port"),
            ([], {"CLAUDE_LOOP_LOG_LEVEL": "chatty"}, "CLAUDE_LOOP_LOG_LEVEL must be one of"),
            (["--host", "0.0.0.0", "--port", "0"], {"CLAUDE_LOOP_HOME": str(home.with_name("third"))}, "0.0.0.0"),
        ]
        tried = [stack.enter_context(running([*MODULE, *line], home, **environ)) for line, environ, _ in attempts]
        for process, (_, _, words) in zip(tried, attempts, strict=True):
            out, err = process.communicate(timeout=20)
            assert (process.returncode, out) == (1, "")
            assert words in err
            assert len(err.splitlines()) == 2  # the sentence, and what to do
        assert first.poll() is None


def test_a_daemon_with_readers_and_an_upload_ends_in_time_and_in_order(home):
    daemon = Daemon(home)
    daemon.start()
    with ExitStack() as stack:
        streams = [http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE) for _ in range(3)]
        for stream in streams:
            stack.callback(stream.close)
            stream.request("GET", "/api/events/stream")
            assert stream.getresponse().status == 200
        upload = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 20))
        upload.sendall(b"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        upload.sendall(b"Content-Length: 100\r\n\r\n[")
        daemon.run("emit", "note.made", "--wait")
        begun = time.monotonic()
        for _ in range(2):  # impatience changes nothing
            daemon.process.send_signal(signal.SIGTERM)
        assert daemon.stop() == 0
        assert time.monotonic() - begun < STOP_SECONDS
    assert_left_in_order(daemon.home)
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert log.splitlines()[-1].endswith("event=stopped")
    epoch = epoch_of(daemon.home)
    daemon.start()
    assert daemon.stop() == 0
    assert epoch_of(daemon.home) == epoch


def epoch_of(home: Home) -> str:
    import sqlite3

    with sqlite3.connect(home.database) as connection:
        (epoch, clean) = connection.execute("SELECT epoch, clean FROM log").fetchone()
    connection.close()
    assert clean
    return epoch


def test_a_signal_during_the_start_ends_it_in_order(home):
    """From the moment on when there is something to clean up."""
    line = [sys.executable, "-m", "claude_loop", "serve", "--port", "0"]
    for wait_for in ("daemon.lock", "sock", "events.db", "token", "daemon.json"):
        with running(line, home) as process:
            wanted = home / wait_for
            until(lambda path=wanted, process=process: path.exists() or process.poll() is not None)
            status, out, err = end(process)
            assert (status, out) == (0, ""), err
            assert "Traceback" not in err
        assert_left_in_order(Home(home))
        for name in ("daemon.lock", "events.db", "token"):
            (home / name).unlink(missing_ok=True)


def test_a_crash_leaves_a_home_that_starts_again(home):
    daemon = Daemon(home)
    daemon.start()
    daemon.run("emit", "note.made", "n=1", "--wait")
    daemon.kill()
    assert daemon.home.daemon_json.exists()
    assert not is_running(daemon.home)
    daemon.start()
    assert json.loads(daemon.home.daemon_json.read_text())["pid"] == daemon.pid
    with urllib.request.urlopen(f"{daemon.url}/api/events", timeout=30) as answer:
        assert [event["data"] for event in json.load(answer)["events"]] == [{"n": "1"}]
    assert daemon.stop() == 0


def test_log_entries_are_one_line_each_and_the_level_can_be_chosen(home):
    for level, expected in (("info", True), ("error", False)):
        with running(
            [*MODULE, "--port", "0"], home, CLAUDE_LOOP_LOG_LEVEL=level, CLAUDE_LOOP_AUTH__LOOPBACK="token"
        ) as process:
            note_of(process, home)
            _, _, err = end(process)
        lines = [line for line in err.splitlines() if "callers on this machine need the token" in line]
        assert bool(lines) is expected
        assert all(line.startswith("timestamp=") for line in err.splitlines())
    assert os.stat(home).st_mode & 0o777 == 0o700

"""Whose claude-loop has the port, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_loop.transports import neighbour
from claude_loop.transports.neighbour import clash
from claude_loop.transports.port_holder import Holder

_DAEMON = """
import socket, sys
lock = open(sys.argv[1], "w") if len(sys.argv) > 1 else None
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(*arguments: str) -> Iterator[int]:
    """A process of ours that listens, and has the file it is given open."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _DAEMON, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives these answers, one a connection, and keeps what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    heard.append(connection.recv(4096))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], heard
        thread.join(10)


@pytest.fixture
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "holder", lambda _address, _port: Holder(uid=os.geteuid() + 1))


@pytest.mark.requires("linux")
def test_a_daemon_of_ours_is_known_by_the_lock_it_holds(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    with listening(str(home / "daemon.lock")) as port:
        assert "claude-loop" not in clash("127.0.0.1", port).message  # any program may call a file so
        (home / "events.db").touch()
        refusal = clash("127.0.0.1", port)
    assert refusal.message.startswith(f"Port {port} on 127.0.0.1 is taken by process ")
    assert refusal.message.endswith(f": the claude-loop daemon of {home}.")
    assert f"`CLAUDE_LOOP_HOME='{home}' claude-loop status`" in refusal.hint
    assert "CLAUDE_LOOP_PORT" in refusal.hint


@pytest.mark.requires("linux")
def test_another_program_of_ours_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "_asked", None)
    with listening() as port:
        refusal = clash("127.0.0.1", port)
    assert "claude-loop" not in refusal.message
    assert refusal.hint.startswith("Stop what listens there")


@pytest.mark.usefixtures("somebody_else")
@pytest.mark.parametrize(
    ("answer", "is_one"),
    [
        (b'HTTP/1.1 200 OK\r\nServer: claude-loop\r\nContent-Length: 20\r\n\r\n{"status":"healthy"}', True),
        (b"HTTP/1.1 503 Service Unavailable\r\nServer: claude-loop\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n", False),
        (b"220 mail.example.org ESMTP\r\n", False),
        (b"", False),
    ],
)
def test_another_users_daemon_is_known_by_its_health_without_a_token(answer: bytes, is_one: bool) -> None:
    with answering(answer) as (port, heard):
        refusal = clash("127.0.0.1", port)
    assert (": a claude-loop daemon." in refusal.message) is is_one
    assert ("Every user's daemon needs a port of its own" in refusal.hint) is is_one
    (sent,) = heard
    assert sent.startswith(b"GET /health HTTP/1.1\r\n")
    assert b"authorization" not in sent.lower()


@pytest.mark.usefixtures("somebody_else")
def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "_ASK_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refusal = clash("127.0.0.1", silent.getsockname()[1])
    assert "is taken by a process of" in refusal.message
    assert "claude-loop" not in refusal.message


@pytest.mark.usefixtures("somebody_else")
def test_who_answers_byte_by_byte_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "_ASK_SECONDS", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while not over.wait(0.01):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        assert "claude-loop" not in clash("127.0.0.1", server.getsockname()[1]).message
        over.set()
        thread.join(10)


def test_where_the_system_does_not_tell_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(address: str, port: int) -> Holder:
        raise OSError

    monkeypatch.setattr(neighbour, "holder", cannot)
    with answering(b"HTTP/1.1 200 OK\r\nServer: claude-loop\r\nContent-Length: 0\r\n\r\n") as (port, _):
        assert clash("127.0.0.1", port).message == f"Port {port} on 127.0.0.1 is taken by a claude-loop daemon."


def test_a_socket_unit_is_named_with_the_home_it_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(neighbour, "holder", lambda _address, _port: Holder(os.geteuid(), 4711, "systemd"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    units = tmp_path / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "claude-loop.socket").write_text("[Socket]\nListenStream=127.0.0.1:4000\n")
    (units / "claude-loop.service").write_text("[Service]\nEnvironment=CLAUDE_LOOP_HOME=/srv/loop\n")
    refusal = clash("127.0.0.1", 4000)
    assert "claude-loop.socket, which starts the claude-loop daemon of /srv/loop" in refusal.message
    assert "`CLAUDE_LOOP_HOME=/srv/loop claude-loop up` starts it" in refusal.hint
    assert "claude-loop" not in clash("127.0.0.1", 400).message

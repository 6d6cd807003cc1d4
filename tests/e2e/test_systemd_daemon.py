"""The real daemon under a service manager: sockets that were open before it, readiness, watchdog, orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PATIENCE, ROOT


class Manager:
    """What systemd does for the units in systemd/: owns the port, listens to notifications, starts the daemon."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(PATIENCE)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "http",
            "WATCHDOG_USEC": "600000",
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        script = f'export LISTEN_PID=$$; exec 3<&{self.listener.fileno()}; exec "$0" -m claude_loop serve'
        line = ["bash", "-c", script, sys.executable]
        daemon = subprocess.Popen(line, env=self.environment, cwd="/", pass_fds=[self.listener.fileno()])
        self.daemons.append(daemon)
        return daemon

    def hear(self, wanted: str) -> list[str]:
        """Notifications up to the first that begins with ``wanted``."""
        heard: list[str] = []
        while not heard or not heard[-1].startswith(wanted):
            heard.append(self.notify.recv(4096).decode())
        return heard

    def health(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=PATIENCE) as answer:
            return json.load(answer)["status"]

    def end(self) -> None:
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait(20)
        self.listener.close()
        self.notify.close()


@pytest.fixture
def manager(home: Path) -> Iterator[Manager]:
    made = Manager(home.parent / "manager")
    yield made
    made.end()


def test_a_connection_made_before_the_daemon_is_there_is_served(manager):
    with socket.create_connection(("127.0.0.1", manager.port), 20) as early:
        early.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        manager.start()
        assert early.makefile("rb").readline().split()[1] == b"200"


def test_ready_means_ready_and_the_end_is_announced(manager):
    daemon = manager.start()
    said = manager.hear("READY=1")[-1]
    assert f"127.0.0.1:{manager.port}" in said
    assert manager.health() == "healthy"
    for _ in range(3):
        manager.hear("WATCHDOG=1")
    daemon.send_signal(signal.SIGTERM)
    manager.hear("STOPPING=1")
    assert daemon.wait(20) == 0


def test_the_port_stays_open_while_the_daemon_is_replaced(manager):
    first = manager.start()
    manager.hear("READY=1")
    first.kill()
    first.wait(20)
    with socket.create_connection(("127.0.0.1", manager.port), 20) as between:
        between.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        manager.start()
        assert between.makefile("rb").readline().split()[1] == b"200"


def test_a_daemon_that_hangs_falls_silent(manager):
    daemon = manager.start()
    manager.hear("READY=1")
    manager.hear("WATCHDOG=1")
    daemon.send_signal(signal.SIGSTOP)
    manager.notify.settimeout(1.5)
    with pytest.raises(TimeoutError):
        for _ in range(10):  # what was under way, then nothing
            manager.notify.recv(4096)

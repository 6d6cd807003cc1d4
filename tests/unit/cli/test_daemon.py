"""`up` and `status` of a daemon that is there, but not well. The daemon is a stand-in: illness cannot be ordered."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from claude_loop.cli import cli
from claude_loop.instance import InstanceLock
from claude_loop.paths import Home

ILLNESS = {"code": "storage_full", "message": "No space is left\x1b.", "hint": "Free some disk space."}
STATUS: dict[str, Any] = {
    "status": "unhealthy",
    "reason": ILLNESS["message"],
    "version": "1",
    "pid": 7,
    "url": "",
    "home": "/h",
    "started_at": "2026-01-26T12:00:00.000Z",
    "clients": 1,
    "log": {"first": 11, "head": 10},
    "spool": {"backlog_files": 2, "rejected": 1, "rejected_lines": [{"file": "f.jsonl", "reason": "no JSON\x07"}]},
}


class Ill(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "test"

    def log_message(self, *_: object) -> None:
        """Nothing of interest."""

    def do_GET(self) -> None:
        health = {"status": "unhealthy", "error": ILLNESS}
        self.send_response(503 if self.path == "/health" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(health if self.path == "/health" else STATUS).encode())


@pytest.fixture
def ill_daemon(home: Path, monkeypatch) -> Iterator[None]:
    monkeypatch.setattr("claude_loop.launch._NOTE_SECONDS", 0.01)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    state = Home(home)
    state.prepare()
    lock = InstanceLock(state)
    lock.acquire()
    with socketserver.UnixStreamServer(str(state.socket), Ill) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
    lock.release()


def test_up_says_what_is_wrong(ill_daemon):
    up = CliRunner().invoke(cli, ["up"])
    assert up.exit_code == 1
    assert up.stderr == "claude-loop already runs.\nIt is unhealthy: No space is left\ufffd.\n  Free some disk space.\n"


def test_up_warns_where_the_other_commands_look_elsewhere(ill_daemon, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_URL", "http://box:1")
    assert "the other commands ask http://box:1, not this daemon" in CliRunner().invoke(cli, ["up"]).stderr


def test_status_says_it_too(ill_daemon):
    status = CliRunner().invoke(cli, ["status"])
    assert status.exit_code == 1
    first, second, *rest = status.stdout.splitlines()
    assert first == "claude-loop 1 is unhealthy at its Unix socket"
    assert second.endswith(", 1 client, 0 events stored")
    assert rest == [
        "  in /h",
        "  No space is left\ufffd.",
        "  2 spool files waiting",
        "  1 spool line rejected, the last ones:",
        "    f.jsonl: no JSON\ufffd",
    ]
    assert CliRunner().invoke(cli, ["status", "--json"]).exit_code == 1

"""Archiving and forgetting with the real daemon: by command, in every view, and over a `kill -9` in the middle."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from claude_loop.client import DaemonClient
from tests.e2e.daemon import Daemon
from tests.support import until

SECRET = "pellucid-walrus"


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    with Daemon(home) as daemon:
        yield daemon


def client(daemon: Daemon) -> DaemonClient:
    return DaemonClient(daemon.home)


def publish(daemon: Daemon, prd: str, count: int) -> None:
    event = {"type": "log.message", "project": "proof", "prd_id": prd}
    for start in range(0, count, 1000):
        batch = [
            event
            | {
                "id": f"{prd}.{n}",
                "data": {"level": "info", "message": f"{SECRET} {prd} {'xylophonic' * (prd == 'P')}"},
            }
            for n in range(start, min(count, start + 1000))
        ]
        client(daemon).post("/api/events", batch)


def ask_to_forget(daemon: Daemon) -> http.client.HTTPConnection:
    asking = client(daemon)._connection(30)
    body = json.dumps({"confirm": "P"}).encode()
    asking.request("POST", "/api/prds/P/forget", body, {"Content-Type": "application/json"})
    return asking


def found(daemon: Daemon) -> list[Any]:
    def indexed() -> Any:
        answer = client(daemon).get("/api/search", {"q": SECRET, "limit": 1000})
        return answer if answer["indexed_upto"] == answer["head"] else None

    return list(until(indexed)["events"])


def test_by_command(daemon: Daemon) -> None:
    publish(daemon, "P", 3)
    publish(daemon, "P2", 2)
    assert len(found(daemon)) == 5
    asked = daemon.run("forget", "P")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert daemon.run("archive", "P2", "--yes").returncode == 0
    listed = daemon.run("prds")
    assert "P2" not in listed.stdout
    assert "1 archived" in listed.stderr
    assert "P2" in daemon.run("prds", "--all").stdout
    assert daemon.run("archive", "P2", "--undo").returncode == 0
    assert "P2" in daemon.run("prds").stdout

    forgotten = daemon.run("forget", "P", "--yes")
    assert (forgotten.returncode, forgotten.stderr) == (0, "proof/P was forgotten.\n")
    assert daemon.run("show", "P").returncode == 2
    assert [event["prd_id"] for event in found(daemon)] == ["P2", "P2"]
    kept = [json.loads(line) for line in daemon.run("export", "--prd", "P").stdout.splitlines()]
    assert [event["data"] for event in kept] == [{"_forgotten": True}] * 3 + [{}]
    assert daemon.run("forget", "P", "--yes").returncode == 2


def is_wiped(daemon: Daemon) -> bool:
    """Whether what search.db had of the forgotten PRD has left the file too."""
    with closing(sqlite3.connect(daemon.home.search)) as connection:
        (left,) = connection.execute("SELECT count(*) FROM forgotten WHERE wiped < 2").fetchone()
    return left == 0


def test_killed_in_the_middle(daemon: Daemon) -> None:
    publish(daemon, "P", 6000)
    publish(daemon, "P2", 1)
    answers: list[Any] = []
    asking = ask_to_forget(daemon)
    until(lambda: client(daemon).get("/status")["log"]["head"] == 6002)
    daemon.kill()  # without waiting for the answer
    asking.close()
    daemon.start()

    def blank() -> bool:
        answers[:] = client(daemon).get("/api/events", {"prd_id": "P", "q": SECRET, "limit": 1})["events"]
        return not answers

    until(blank)
    assert [event["prd_id"] for event in found(daemon)] == ["P2"]
    again = client(daemon).post(
        "/api/events",
        {
            "type": "log.message",
            "project": "proof",
            "prd_id": "P",
            "id": "P.7",
            "data": {"level": "info", "message": SECRET},
        },
    )
    assert again["accepted"][0]["duplicate"] is True
    until(lambda: is_wiped(daemon))  # the index lets go of its words after it has forgotten them
    daemon.stop()
    rebuilt = daemon.run("rebuild")
    assert "the same as before" in rebuilt.stderr, rebuilt.stderr
    left = {file.name: file.read_bytes() for file in daemon.home.root.glob("*.db*")}
    assert {name: content.count(SECRET.encode()) for name, content in left.items()} == {
        name: int(name == "events.db") for name in left
    }, "of the other PRD alone"
    assert b"xylophonic" not in b"".join(left.values())
    daemon.start()


def test_forgetting_costs_the_others_nothing_for_long(daemon: Daemon) -> None:
    publish(daemon, "P", 5000)
    asking = ask_to_forget(daemon)
    until(lambda: client(daemon).get("/status")["log"]["head"] == 5001)
    slowest = 0.0
    for n in range(20):
        begun = time.monotonic()
        client(daemon).post("/api/events", {"type": "note.made", "id": f"n{n}"})
        slowest = max(slowest, time.monotonic() - begun)
    assert json.loads(asking.getresponse().read())["ok"] is True
    asking.close()
    assert slowest < 2.0

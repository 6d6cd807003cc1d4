"""The daemon is killed while it stores one commit of many events and numbers the next.

The publisher sends each body again until it is answered. Afterwards every event is in the log exactly once, where it was
acknowledged, numbers have no gap, and the read model equals a rebuild.
"""

from __future__ import annotations

import http.client
import json
import random
import sqlite3
import threading
import time
from contextlib import closing
from typing import Self

import pytest

from tests.e2e.daemon import Daemon
from tests.support import PATIENCE, until

KILLS = 12
BODY_EVENTS = 5_000
RETRY_SECONDS = 0.02


class Bulk:
    """A thread that publishes bodies of NDJSON, each until it is acknowledged."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._thread = threading.Thread(target=self._run, name="bulk")
        self.stopping = False
        self.acknowledged: dict[str, int] = {}
        self.bodies = 0
        self.repeated = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self.stopping:
            lines = [event(self.bodies * BODY_EVENTS + n) for n in range(BODY_EVENTS)]
            body = b"\n".join(json.dumps(line).encode() for line in lines)
            while (answer := self._post(body)) is None:
                time.sleep(RETRY_SECONDS)
            assert len(answer["accepted"]) == BODY_EVENTS, answer["rejected"][:3]
            for line, one in zip(lines, answer["accepted"], strict=True):
                assert one["id"] == line["id"]
                self.acknowledged[one["id"]] = one["seq"]
                self.repeated += one["duplicate"]
            self.bodies += 1

    def _post(self, body: bytes) -> dict | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._daemon.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/api/events", body, {"Content-Type": "application/x-ndjson"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return json.loads(content) if answer.status == 200 else None


def event(number: int) -> dict:
    return {
        "id": f"bulk-{number}",
        "type": "test.run",
        "prd_id": f"PRD-{number // 700 % 5}",
        "story_id": f"US-{number // 90 % 11}",
        "data": {"passed": number % 7, "failed": number % 3},
    }


def head(daemon: Daemon) -> int:
    with closing(sqlite3.connect(f"file:{daemon.home.database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]


def read_model(daemon: Daemon) -> dict[str, dict]:
    with closing(sqlite3.connect(f"file:{daemon.home.database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT key, document FROM read_model")
        return {key: json.loads(document) for key, document in rows}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_many_events_at_once_are_stored_once_however_often_the_daemon_is_killed(tmp_path):
    dice = random.Random(seed := random.randrange(1_000_000))
    print(f"seed {seed}")
    daemon = Daemon(tmp_path / "home")
    daemon.start()
    with Bulk(daemon) as bulk:
        for _ in range(KILLS):
            # From within the first commits of a body to somewhere in the next: storing one takes some 0.2 s.
            stored, further = head(daemon), dice.randint(1, 2 * BODY_EVENTS)
            until(lambda stored=stored, further=further: head(daemon) >= stored + further)
            daemon.kill()
            daemon.start()
        acknowledged = bulk.bodies
        until(lambda: bulk.bodies > acknowledged + 1)
    daemon.stop()

    with closing(sqlite3.connect(f"file:{daemon.home.database}?mode=ro", uri=True)) as connection:
        stored = {id_: seq for seq, id_ in connection.execute("SELECT seq, id FROM events ORDER BY seq")}
        assert list(stored.values()) == list(range(1, len(stored) + 1))
        assert connection.execute("SELECT count(*) FROM events").fetchone()[0] == len(stored)
    assert stored == bulk.acknowledged
    assert bulk.repeated > 0
    live = read_model(daemon)
    assert daemon.run("rebuild").returncode == 0
    assert read_model(daemon) == live

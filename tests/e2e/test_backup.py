"""`backup` beside a daemon that stores events, and `restore` as its readers see it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.support import PATIENCE


@pytest.fixture
def daemon(home: Path, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(home, XDG_CONFIG_HOME=str(tmp_path)) as one:
        yield one


def asked(daemon: Daemon, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def publish(daemon: Daemon, *numbers: int) -> None:
    events = [{"type": "a.b", "id": f"e{n}", "data": {"n": n}} for n in numbers]
    assert not asked(daemon, "POST", "/api/events", events)["rejected"]


def stored(daemon: Daemon) -> list[str]:
    return [event["id"] for event in asked(daemon, "GET", "/api/events?limit=1000")["events"]]


def test_a_backup_under_load_is_the_log_at_one_moment(daemon, tmp_path):
    publish(daemon, 0)
    ended = threading.Event()

    def load() -> None:
        number = 1
        while not ended.is_set():
            publish(daemon, *range(number, number + 20))
            number += 20

    loader = threading.Thread(target=load)
    loader.start()
    try:
        done = [daemon.run("backup", str(tmp_path / f"{n}.db")) for n in range(3)]
    finally:
        ended.set()
        loader.join()
    assert [one.returncode for one in done] == [0, 0, 0], done[0].stderr
    heads = [int(one.stdout.split(".")[1]) for one in done]
    assert heads == sorted(heads)
    daemon.stop()
    assert daemon.run("restore", str(tmp_path / "2.db")).returncode == 0
    daemon.start()
    events = asked(daemon, "GET", "/api/events?limit=1000")["events"]
    assert [event["seq"] for event in events] == list(range(1, min(heads[2], 1000) + 1))
    assert daemon.run("status", "--json").returncode == 0
    daemon.stop()
    assert "the same as before" in daemon.run("rebuild").stderr


def test_restore_refuses_beside_a_daemon_and_resets_readers(daemon, tmp_path):
    publish(daemon, 1, 2)
    file = str(tmp_path / "log.db")
    backup = daemon.run("backup", file)
    cursor = backup.stdout.strip()
    assert backup.stderr.endswith(" up to the cursor above.\n")
    assert daemon.run("backup", file).returncode == 4
    publish(daemon, 3)
    after = asked(daemon, "GET", f"/api/events?after={cursor}")
    assert [event["id"] for event in after["events"]] == ["e3"]

    refused = daemon.run("restore", file)
    assert refused.returncode == 4
    assert "already runs" in refused.stderr
    assert stored(daemon) == ["e1", "e2", "e3"]

    daemon.stop()
    done = daemon.run("restore", file)
    assert done.returncode == 0
    assert "events.db.replaced-" in done.stderr
    daemon.start()
    publish(daemon, 4)
    assert stored(daemon) == ["e1", "e2", "e4"]
    # A reader that saw e3 under the number that e4 has now, and one that saw no more than the backup.
    for seen in (after["cursor"], cursor):
        stream = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
        stream.request("GET", "/api/events/stream", headers={"Last-Event-ID": seen})
        lines = iter(stream.getresponse().readline, b"")
        assert b"event: reset\n" in lines
        data = next(line for line in lines if line.startswith(b"data:"))
        assert json.loads(data.removeprefix(b"data:"))["reason"] == "epoch"
        stream.close()


def test_notifications_of_the_replaced_log_are_put_aside_with_it_and_runs_stay(daemon, tmp_path):
    publish(daemon, 1)
    file = str(tmp_path / "log.db")
    assert daemon.run("backup", file).returncode == 0
    daemon.stop()
    home = daemon.home
    for path in (home.outbox, home.root / "notify.db-wal"):
        path.write_text("of that log")
    home.receipts.mkdir(exist_ok=True)
    (home.receipts / "one").touch()
    (home.runs / "run").mkdir()
    assert daemon.run("restore", file).returncode == 0
    kept = min(home.root.glob("events.db.replaced-*"))  # the others lie beside it, as SQLite has them
    suffix = kept.name.removeprefix("events.db")
    aside = [home.root / name for name in (f"notify.db{suffix}", f"notify.db{suffix}-wal", f"notify{suffix}/one")]
    assert all(path.exists() for path in aside)
    assert not home.outbox.exists()
    assert (home.runs / "run").is_dir()


def test_what_cannot_be_restored(daemon, tmp_path):
    daemon.stop()
    (tmp_path / "text").write_text("not a log")
    assert daemon.run("restore", str(tmp_path / "text")).returncode == 2
    assert daemon.run("restore", str(tmp_path / "missing")).returncode == 2
    assert daemon.run("restore").returncode == 2
    assert daemon.run("restore", "--empty", str(tmp_path / "text")).returncode == 2

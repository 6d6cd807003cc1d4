"""Following a stream across everything that can become of it. The daemon is a script; the connection is real."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from claude_loop.cli import follow as follow_module
from claude_loop.cli.follow import follow, stored
from claude_loop.client import DaemonClient, ServerError
from claude_loop.errors import DaemonUnreachable
from claude_loop.paths import Home

EPOCH = "0123456789abcdef"


def cursor(seq: int, epoch: str = EPOCH) -> str:
    return f"{epoch}.{seq}.0011223344"


def event(seq: int, epoch: str = EPOCH) -> str:
    return f'id: {cursor(seq, epoch)}\ndata: {{"seq":{seq}}}\n\n'


def position(seq: int) -> str:
    return f"id: {cursor(seq)}\n\n"


def reset(reason: str, seq: int, epoch: str = EPOCH) -> str:
    return f'event: reset\nid: {cursor(seq, epoch)}\ndata: {{"reason":"{reason}"}}\n\n'


class Refusal(dict[str, Any]):
    """Answered instead of a stream."""


class Daemon(socketserver.ThreadingUnixStreamServer):
    """Each request for the stream gets the next part of the script, then the connection ends."""

    daemon_threads = True

    def __init__(self, home: Home) -> None:
        home.root.mkdir()
        super().__init__(str(home.socket), Handler)
        self.script: list[str | Refusal] = []
        self.asked: list[tuple[str, str | None]] = []
        self.status: dict[str, Any] = {"pid": 1, "started_at": "a", "log": {"cursor": cursor(3)}}
        self.after_each: Callable[[], None] = lambda: None


class Handler(BaseHTTPRequestHandler):
    server: Daemon

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """The test looks at what is asked."""

    def do_GET(self) -> None:
        if self.path.startswith("/status"):
            return self._answer(200, self.server.status)
        self.server.asked.append((self.path, self.headers.get("Last-Event-ID")))
        part = self.server.script.pop(0)
        if isinstance(part, Refusal):
            self._answer(part["status"], {"error": part})
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(part.encode())
        self.server.after_each()
        return None

    def _answer(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


class Person:
    """Whoever reads."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.until = ""

    def word(self, text: str) -> None:
        self.words.append(text)

    def shown_until(self) -> str:
        return self.until


@pytest.fixture
def state(home: Path) -> Home:
    home.parent.mkdir(exist_ok=True)
    return Home(home)


@pytest.fixture
def daemon(state: Home, monkeypatch) -> Iterator[Daemon]:
    monkeypatch.setattr(follow_module, "RECONNECT_SECONDS", 0.001)
    with Daemon(state) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(state: Home) -> DaemonClient:
    return DaemonClient(state)


@pytest.fixture
def person() -> Person:
    return Person()


def seqs(events: Iterator[str], count: int | None = None) -> list[int]:
    return [json.loads(text)["seq"] for text in islice(events, count)]


def test_a_break_is_resumed_behind_the_last_whole_message(daemon, client, person) -> None:
    cut = event(3)[:-12]
    daemon.script = [position(0) + event(1) + event(2) + cut, event(3) + event(4)]
    assert seqs(follow(client, {"prd_id": ("P", "Q")}, {"from": "start"}, person), 4) == [1, 2, 3, 4]
    assert daemon.asked == [
        ("/api/events/stream?prd_id=P&prd_id=Q&from=start", None),
        ("/api/events/stream?prd_id=P&prd_id=Q", cursor(2)),
    ]


def test_positions_without_events_count(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1) + position(9), event(10)]
    assert seqs(follow(client, {}, {"from": "start"}, person), 2) == [1, 10]
    assert daemon.asked[1][1] == cursor(9)


def test_a_stream_that_gave_no_place_begins_again(daemon, client, person) -> None:
    daemon.script = ["retry: 1000\n", event(1)]
    assert seqs(follow(client, {}, {"from": "start"}, person), 1) == [1]
    assert [last for _, last in daemon.asked] == [None, None]


@pytest.mark.parametrize(
    ("started_at", "until", "word"),
    [
        ("b", "22:14:03", "daemon restarted; resumed after 22:14:03, nothing missed"),
        ("b", "", "daemon restarted; resumed, nothing missed"),
        ("a", "22:14:03", "connection lost; resumed after 22:14:03, nothing missed"),
    ],
)
def test_what_happened_is_said_once(daemon, client, person, started_at, until, word) -> None:
    person.until = until
    daemon.script = [event(1), "", event(2) + event(3)]
    daemon.after_each = lambda: daemon.status.update(started_at=started_at) if len(daemon.asked) > 1 else None
    events = follow(client, {}, {"from": "start"}, person)
    assert seqs(events, 1) == [1]
    assert person.words == []
    assert seqs(events, 2) == [2, 3]
    assert person.words == [word]


@pytest.mark.parametrize("reason", ["trimmed", "epoch", "diverged", "ahead"])
def test_a_reset_is_said_instead(daemon, client, person, reason) -> None:
    daemon.script = [event(1), reset(reason, 5) + event(6), event(7)]
    events = follow(client, {}, {"from": "start"}, person)
    assert seqs(events, 2) == [1, 6]
    [word] = person.words
    assert "; going on at" in word
    assert "nothing missed" not in word
    assert seqs(events, 1) == [7]
    assert daemon.asked[2][1] == cursor(6)
    assert person.words[1:] == ["connection lost; resumed, nothing missed"]


def test_a_farewell_is_no_event(daemon, client, person) -> None:
    daemon.script = [event(1) + 'event: bye\ndata: {"reconnect_after":1}\n\n', event(2)]
    assert seqs(follow(client, {}, {"from": "start"}, person), 2) == [1, 2]


def test_no_daemon_to_begin_with(state, person) -> None:
    with pytest.raises(DaemonUnreachable):
        next(follow(DaemonClient(state), {}, {"from": "start"}, person))


def test_a_refusal_is_final(daemon, client, person) -> None:
    daemon.script = [event(1), Refusal(status=401, code="unauthorized", message="No.")]
    events = follow(client, {}, {"from": "start"}, person)
    next(events)
    with pytest.raises(ServerError) as refusal:
        next(events)
    assert refusal.value.code == "unauthorized"


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_a_busy_daemon_is_asked_again(daemon, client, person, status, monkeypatch) -> None:
    monkeypatch.setattr(follow_module, "PATIENCE_SECONDS", 0.0)
    daemon.script = [Refusal(status=status, code="busy", message="Later.\x1b"), event(1)]
    assert seqs(follow(client, {}, {"from": "start"}, person), 1) == [1]
    assert person.words == ["the daemon says: Later.\ufffd Trying again"]


def test_a_long_absence_is_worth_one_word(daemon, client, person, monkeypatch) -> None:
    monkeypatch.setattr(follow_module, "PATIENCE_SECONDS", 0.0)
    daemon.script = [event(1), "", "", "", event(2)]
    assert seqs(follow(client, {}, {"from": "start"}, person), 2) == [1, 2]
    assert person.words == [
        "daemon gone; waiting for it (`claude-loop up` starts it)",
        "connection lost; resumed, nothing missed",
    ]


def test_what_is_stored_ends_where_the_log_ended(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1) + event(3) + event(4)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == [1, 3]


def test_it_ends_also_where_only_the_place_moves(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1) + position(3)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == [1]


def test_it_ends_where_the_place_jumps_over_the_end(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1) + event(5)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == [1]


def test_an_empty_log_ends_at_once(daemon, client, person) -> None:
    daemon.status["log"]["cursor"] = cursor(0)
    daemon.script = [position(0)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == []


def test_a_break_on_the_way_is_resumed(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1), event(2), event(3)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == [1, 2, 3]


def test_another_log_has_no_such_end(daemon, client, person) -> None:
    daemon.script = [position(0) + event(1), reset("epoch", 2, "f" * 16) + event(3, "f" * 16)]
    assert seqs(stored(client, {}, {"from": "start"}, person)) == [1]
    assert person.words == ["the log is a new one; going on at its end"]


def test_what_is_stored_is_not_waited_for_without_a_daemon(daemon, client, person, state, monkeypatch) -> None:
    monkeypatch.setattr(follow_module, "PATIENCE_SECONDS", 0.0)
    daemon.script = [position(0) + event(1)]
    daemon.after_each = state.socket.unlink
    with pytest.raises(DaemonUnreachable):
        seqs(stored(client, {}, {"from": "start"}, person))

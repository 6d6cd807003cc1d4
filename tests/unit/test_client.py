"""The client: addresses, tokens, what becomes of failures, and the parser of event streams."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import pytest

from claude_loop.client import Address, DaemonClient, Message, ServerError, _messages
from claude_loop.errors import DaemonUnreachable, Forbidden, InvalidRequest
from claude_loop.paths import Home

OTHER_UID = 12_345


# What no daemon says.
FOREIGN = {"/empty": (200, b""), "/null": (200, b"null"), "/list": (200, b"[1]"), "/deep": (200, b"[" * 100_000)}
OTHERS = {**FOREIGN, "/moved": (302, b""), "/teapot": (418, b"<html>I am another server</html>")}


class Answers(BaseHTTPRequestHandler):
    """Says what was asked, or what the test wants said."""

    def address_string(self) -> str:
        return "test"

    def log_message(self, *_: object) -> None:
        """The answer holds what was asked."""

    def do_GET(self) -> None:
        if self.path.endswith("/broken"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            return self.wfile.write(b"half")
        if self.path.startswith("/cut/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            told = f"{self.headers['Last-Event-ID']} {self.path}"
            return self.wfile.write(f"id: c1\ndata: {told}\n\nid: c2\ndata: cut o".encode())
        if self.path.startswith("/no"):
            return self._answer(401, b'{"error":{"code":"unauthorized","message":"No.","hint":"for curl"}}')
        if self.path in OTHERS:
            return self._answer(*OTHERS[self.path])
        headers = {name.lower(): value for name, value in self.headers.items()}
        return self._answer(200, json.dumps({"path": self.path, "headers": headers}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, json.dumps({"type": self.headers["Content-Type"], "body": json.loads(body)}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def url() -> Iterator[str]:
    server = socketserver.TCPServer(("127.0.0.1", 0), Answers)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:18790", Address(tls=False, host="127.0.0.1", port=18790, prefix="")),
        ("http://[::1]:18790/", Address(tls=False, host="::1", port=18790, prefix="")),
        ("https://loops.example/team/a/", Address(tls=True, host="loops.example", port=443, prefix="/team/a")),
        ("http://box", Address(tls=False, host="box", port=80, prefix="")),
    ],
)
def test_addresses(given, address):
    assert Address.parse(given) == address


@pytest.mark.parametrize("given", ["127.0.0.1:18790", "ftp://x", "http://", "http://x:99999", "http://[x", "nonsense"])
def test_what_is_no_address_is_refused_and_named(given):
    with pytest.raises(InvalidRequest) as refusal:
        DaemonClient(url=given)
    assert given in refusal.value.message


@pytest.mark.parametrize("token", ["two words", "line\nend", "ünicode", " "])
def test_what_cannot_be_a_token_is_refused(token):
    with pytest.raises(InvalidRequest) as refusal:
        DaemonClient(url="http://127.0.0.1:1", token=token)
    assert token.strip() not in refusal.value.message or not token.strip()


def test_the_environment_says_where(home):
    client = DaemonClient.from_environment({"CLAUDE_LOOP_HOME": str(home), "CLAUDE_LOOP_URL": ""})
    assert not client.is_elsewhere
    assert client.where == str(home / "sock")
    client = DaemonClient.from_environment({"CLAUDE_LOOP_URL": "http://box:1"})
    assert (client.is_elsewhere, client.where) == (True, "http://box:1")


def test_over_tcp_with_prefix_query_and_token(url):
    client = DaemonClient(url=f"{url}/team", token=" secret\n")
    answer = client.get("/api/prds/a%2Fb", {"type": ("x.*", "y"), "project": "", "prd_id": (), "run_id": None})
    assert answer["path"] == "/team/api/prds/a%2Fb?type=x.%2A&type=y&project="
    assert answer["headers"]["authorization"] == "Bearer secret"
    assert client.post("/api/events", {"a": "ü"}) == {"type": "application/json", "body": {"a": "ü"}}


def test_without_a_token_none_is_sent(url):
    assert "authorization" not in DaemonClient(url=url).get("/")["headers"]


def test_a_unix_socket_below_any_path_and_no_token_over_it(home):
    deep = home / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    here = os.open(deep, os.O_RDONLY)
    try:
        server = socketserver.UnixStreamServer(f"/proc/self/fd/{here}/sock", Answers)
    finally:
        os.close(here)
    with serving(server):
        answer = DaemonClient(Home(deep), token="secret").get("/health")
    assert answer["path"] == "/health"
    assert "authorization" not in answer["headers"]


def test_a_refusal_carries_the_servers_code_and_a_hint_that_fits_here(url):
    with pytest.raises(ServerError) as refusal:
        DaemonClient(url=f"{url}/no").get("/health")
    error = refusal.value
    assert (error.code, error.status, error.message) == ("unauthorized", 401, "No.")
    assert "CLAUDE_LOOP_TOKEN" in error.hint


def test_another_kind_of_server_is_named(url):
    with pytest.raises(ServerError) as refusal:
        DaemonClient(url=url).get("/teapot")
    assert (refusal.value.code, refusal.value.status) == ("internal", 418)
    assert f"{url} answered 418" in refusal.value.message


def test_a_server_that_sends_one_elsewhere_is_another(url):
    with pytest.raises(ServerError, match="answered 302"):
        DaemonClient(url=url).get("/moved")


@pytest.mark.parametrize("path", FOREIGN)
def test_what_no_daemon_says_is_no_answer(url, path):
    with pytest.raises(DaemonUnreachable, match=r"broke off|no claude-loop"):
        DaemonClient(url=url).get(path)


def test_half_an_answer_is_none(url):
    with pytest.raises(DaemonUnreachable, match="broke off"):
        DaemonClient(url=url).get("/broken")


def test_nobody_there(home, port):
    with pytest.raises(DaemonUnreachable) as failure:
        DaemonClient(Home(home)).get("/health")
    assert failure.value.message == f"No daemon answers on {home}/sock."
    assert failure.value.hint == "`claude-loop up` starts it."
    for token in (None, "secret"):
        with pytest.raises(DaemonUnreachable) as failure:
            DaemonClient(url=f"http://127.0.0.1:{port}", token=token).get("/health")
        assert "CLAUDE_LOOP_URL" in failure.value.hint


def test_nobody_answers(home):
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "sock"))
        listener.listen()
        with pytest.raises(DaemonUnreachable, match="does not answer") as failure:
            DaemonClient(Home(home)).get("/health", timeout=0.05)
    assert "claude-loop down" in failure.value.hint


@pytest.mark.requires("linux", "root")
def test_a_token_is_not_sent_to_another_user(tmp_path):
    program = (
        f"import os, socket, sys; os.setuid({OTHER_UID}); s = socket.create_server(('127.0.0.1', 0)); s.settimeout(30)\n"
        "print(s.getsockname()[1], flush=True)\n"
        "while c := s.accept()[0]:\n"
        "    print(repr(c.recv(9999)), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd="/") as squatter:
        port = squatter.stdout.readline().strip()
        with pytest.raises(Forbidden, match="belongs to another user"):
            DaemonClient(url=f"http://127.0.0.1:{port}", token="secret").get("/health")
        received = squatter.stdout.readline()
        squatter.kill()
        assert received + squatter.stdout.read() == "b''\n"  # it was looked at, and told nothing


def messages(text: str, piece: int = 1000) -> list[Message]:
    stream = BytesIO(text.encode())

    class Response:
        def read1(self, most: int) -> bytes:
            return stream.read(min(piece, most))

    return list(_messages(Response()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id: c1\ndata: {"seq":1}\n\n', [Message("", '{"seq":1}', "c1")]),
        ("id: c1\n\n", [Message("", "", "c1")]),
        ("id: c1\n\ndata: x\n\n", [Message("", "", "c1"), Message("", "x", "c1")]),
        ("retry: 1000\n: ping\n\n", []),
        ("event: reset\nid: c2\ndata: {}\n\ndata: y\n\n", [Message("reset", "{}", "c2"), Message("", "y", "c2")]),
        ("data: a\ndata:b\ndata:  c\n\n", [Message("", "a\nb\n c", None)]),
        ("data: a\r\n\r\n", [Message("", "a", None)]),
        ("data: cut off", []),
        ("data: cut off\n", []),
        ("id: c3\ndata: cut", []),
    ],
)
def test_event_streams(text: str, expected: list[Any]) -> None:
    for piece in (1, 2, 3, 7, 1000):
        assert messages(text, piece) == expected


def test_a_stream_ends_however_its_connection_ends(url):
    stream = DaemonClient(url=f"{url}/cut").stream({"from": "start"}, "c0")
    assert list(stream) == [Message("", "c0 /cut/api/events/stream?from=start", "c1")]


def test_a_stream_that_is_refused(url):
    with pytest.raises(ServerError) as refusal:
        next(DaemonClient(url=f"{url}/no").stream({}))
    assert refusal.value.status == 401


def test_a_missing_home_is_no_daemon_also_below_a_long_path(tmp_path):
    with pytest.raises(DaemonUnreachable, match="No daemon answers"):
        DaemonClient(Home(tmp_path / ("b" * 120))).get("/health")

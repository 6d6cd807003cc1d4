"""Events written to a terminal, a pipe or a file."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from claude_loop.cli.printer import Printer
from claude_loop.cli.read_model import ReadModel
from claude_loop.cli.tail import tells_of_failure
from claude_loop.client import DaemonClient
from claude_loop.clock import parse_time


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    """Two hours and a quarter east: what is shown in UTC would be seen."""
    monkeypatch.setenv("TZ", "XYZ-02:15")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printer(stream: io.StringIO | None, **options: Any) -> Printer:
    return Printer(ReadModel(DaemonClient()), stream, last_day="2026-01-26", **options)


def event(type_: str = "log.message", at: str = "2026-01-26T12:00:00.000Z", **data: Any) -> str:
    envelope = {"seq": 7, "id": "e-7", "type": type_, "project": "shop", "prd_id": "P", "story_id": None}
    rest = {"run_id": None, "session_id": None, "source": "bash", "timestamp": at, "received_at": at}
    return json.dumps(envelope | rest | {"data": data or {"level": "info", "message": "hi"}})


def test_text_is_in_local_time():
    stream = io.StringIO()
    printer(stream).show(event())
    assert stream.getvalue() == "14:15:00 shop/P              · hi\n"


def test_json_is_what_the_server_sent():
    stream = io.StringIO()
    sent = event().replace('": ', '" :  ')
    printer(stream, as_json=True).show(sent)
    assert stream.getvalue() == sent + "\n"


def test_json_controls_no_terminal():
    stream = io.StringIO()
    sent = event(note="a\x9b31m\u202eb\x7f")
    printer(stream, as_json=True).show(json.dumps(json.loads(sent), ensure_ascii=False))
    assert r"a\u009b31m\u202eb\u007f" in stream.getvalue()
    assert json.loads(stream.getvalue()) == json.loads(sent)


def test_a_new_date_is_said_before_the_first_event_of_the_day():
    stream = io.StringIO()
    shown = printer(stream)
    for at in ("2026-01-25T21:44:59Z", "2026-01-25T21:45:00Z", "2026-01-26T00:00:00Z", "2026-01-26T21:45:00Z"):
        shown.show(event(at=at))
    assert [line[:16] for line in stream.getvalue().splitlines()] == [
        "-- 2026-01-25 --",
        "23:59:59 shop/P ",
        "-- 2026-01-26 --",
        "00:00:00 shop/P ",
        "02:15:00 shop/P ",
        "-- 2026-01-27 --",
        "00:00:00 shop/P ",
    ]


def test_colour_is_for_terminals():
    piped, terminal = io.StringIO(), Terminal()
    for stream in (piped, terminal):
        printer(stream).show(event("error.occurred", error="boom"))
    assert "\x1b[31m! error: boom\x1b[0m" in terminal.getvalue()
    assert "\x1b" not in piped.getvalue()


def test_book_keeping_is_hidden_unless_asked_for():
    owned = event("system.run_owned", pid=1)
    streams = [io.StringIO() for _ in range(3)]
    printer(streams[0]).show(owned)
    printer(streams[1], everything=True).show(owned)
    printer(streams[2], as_json=True).show(owned)
    assert [bool(stream.getvalue()) for stream in streams] == [False, True, True]


def test_without_a_stream_the_place_is_still_known(capsys):
    shown = printer(None, quiet=True)
    assert shown.shown_until() == ""
    shown.show(event())
    shown.word("something")
    assert shown.shown_until() == "14:15:00"
    assert capsys.readouterr() == ("", "")
    assert shown.last_at == parse_time("2026-01-26T12:00:00Z") // 1000


def test_words_go_to_stderr(capsys):
    printer(io.StringIO()).word("daemon gone")
    assert capsys.readouterr() == ("", "-- daemon gone --\n")


@pytest.mark.parametrize(
    ("type_", "data", "failure"),
    [
        ("prd.completed", {"success": True, "status": "completed"}, False),
        ("prd.completed", {"success": False, "status": "failed"}, True),
        ("story.completed", {"status": "failed"}, True),
        ("run.completed", {"exit_code": 1}, True),
        ("run.completed", {"success": True, "exit_code": 0}, False),
        ("test.run", {"passed": 1, "failed": 1}, True),
        ("test.run", {"passed": 1, "failed": 0}, False),
        ("error.occurred", {"error": "x"}, True),
        ("system.run_vanished", {"pid": 1}, True),
        ("deploy.done", {"failed": "no"}, False),
        ("story.started", {}, False),
    ],
)
def test_which_events_tell_of_failure(type_, data, failure):
    assert tells_of_failure({"type": type_, "data": data}) is failure

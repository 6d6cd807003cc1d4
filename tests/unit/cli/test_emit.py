"""`emit`: what lands in the spool, and that it never fails its caller."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from claude_loop.cli import cli
from claude_loop.cli import emit as emit_module
from claude_loop.paths import Home
from tests.support import until


@pytest.fixture
def state(home: Path, monkeypatch) -> Home:
    monkeypatch.setenv("CLAUDE_LOOP_PROJECT", "shop")
    return Home(home)


def emit(*arguments: str):
    return CliRunner().invoke(cli, ["emit", *arguments])


def spooled(state: Home) -> list[dict[str, Any]]:
    files = sorted(state.spool.iterdir()) if state.spool.is_dir() else []
    return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]


def test_an_event_with_its_ids_and_data(state):
    ids = ["--prd", "P", "--story", "S", "--run", "R", "--session", "X", "--project", "other"]
    outcome = emit("test.run", *ids, "passed:=3", "failed:=0", "command=make test", "empty=", 'nested:={"a":[1,null]}')
    assert (outcome.exit_code, outcome.output) == (0, "")
    [event] = spooled(state)
    assert event["data"] == {"passed": 3, "failed": 0, "command": "make test", "empty": "", "nested": {"a": [1, None]}}
    given = {key: event[key] for key in ("type", "source", "project", "prd_id", "story_id", "run_id", "session_id")}
    assert given == {
        "type": "test.run",
        "source": "cli",
        "project": "other",
        "prd_id": "P",
        "story_id": "S",
        "run_id": "R",
        "session_id": "X",
    }


def test_ids_come_from_the_environment_too(state, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_PRD", "P-env")
    monkeypatch.setenv("CLAUDE_LOOP_STORY", "S-env")
    emit("a.b", "--story", "S-given")
    [event] = spooled(state)
    assert (event["project"], event["prd_id"], event["story_id"]) == ("shop", "P-env", "S-given")


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [
        ("url=http://x?a:=b", "url", "http://x?a:=b"),
        ("a==b", "a", "=b"),
        ("n:=-1.5e3", "n", -1500.0),
        ('s:="x"', "s", "x"),
    ],
)
def test_a_field_is_split_at_its_first_sign(state, field, key, value):
    assert emit("a.b", field).exit_code == 0
    assert spooled(state)[0]["data"] == {key: value}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["Story.Started"], "“Story.Started”"),
        (["a b"], "“a b”"),
        (["a" * 129], "is not a type"),
        (["a.b", "novalue"], "“novalue”"),
        (["a.b", "=x"], "“=x”"),
        (["a.b", ":=1"], "“:=1”"),
        (["a.b", "n:=x"], "“x” (for n) is not JSON"),
        (["a.b", "n:=NaN"], "“NaN” (for n) is not JSON"),
        (["a.b", "n:="], "“” (for n) is not JSON"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_emitted(state, arguments, named):
    outcome = emit(*arguments)
    assert outcome.exit_code == 2
    assert named in outcome.stderr
    assert spooled(state) == []


def test_any_bytes_become_json(state):
    emit("a.b", 'text=a\nb\x1b\udcff"\\🎉')
    assert spooled(state)[0]["data"] == {"text": 'a\nb\x1b?"\\🎉'}


def test_a_state_directory_that_cannot_be_used_is_silent(state):
    state.root.write_text("a file is in the way")
    outcome = emit("a.b")
    assert (outcome.exit_code, outcome.output) == (0, "")


def test_who_waits_hears_of_it(state):
    state.root.write_text("a file is in the way")
    outcome = emit("a.b", "--wait")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("claude-loop: the event could not be spooled: ")


def test_waiting_for_a_daemon_that_is_not_there_has_an_end(state, monkeypatch):
    monkeypatch.setattr(emit_module, "PATIENCE_SECONDS", 0.02)
    outcome = emit("a.b", "--wait")
    assert outcome.exit_code == 1
    assert "not committed within" in outcome.stderr
    assert len(spooled(state)) == 1
    assert list(state.flush.iterdir()) == []


def test_waiting_ends_with_the_commit(state):
    def commit() -> None:
        request = until(lambda: next(iter(state.flush.glob("*")), None))
        assert request.name == f"{next(state.spool.iterdir()).stem}.1"
        request.unlink()

    daemon = threading.Thread(target=commit)
    daemon.start()
    assert emit("a.b", "--wait").exit_code == 0
    daemon.join()


def test_silenced(state, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_DISABLE", "1")
    assert emit("a.b", "--wait").exit_code == 0
    assert spooled(state) == []

"""`emit`: what lands in the spool, and that it never fails its caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.catalogue import CATALOGUE
from claude_loop.cli import cli
from claude_loop.cli import emit as emit_module
from claude_loop.errors import InvalidEvent
from claude_loop.events import RESERVED as RESERVED_TYPES
from claude_loop.paths import Home
from claude_loop.payloads import NUMBERS, REQUIRED, RESERVED, misread
from tests.support import ROOT, until


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


def test_an_id_that_was_given_as_data_is_doubted(state):
    outcome = emit("deploy.done", "prd=P", "run:=5", "note=x", "--run", "R")
    assert outcome.exit_code == 0
    assert outcome.stderr == "claude-loop: `prd` went into the event's data; --prd says whose event it is.\n"
    assert spooled(state)[0]["data"] == {"prd": "P", "run": 5, "note": "x"}
    assert "--prd says whose event it is" in emit("deploy.done", "prd_id=P", "story_id=S").stderr
    assert emit("deploy.done", "prd=P", "--quiet").stderr == ""


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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["test.run", "--story", "S", "passed:=1"], "`failed`"),
        (["test.run", "passed:=1", "failed:=0"], "`story_id` (--story)"),
        (["commit.created", "--story", "S"], "`commit_hash`"),
        (["story.completed"], "`story_id` (--story), `success`"),
        (["error.occurred", "error:=null"], "`error`"),
    ],
)
def test_a_missing_field_is_named_and_the_event_is_emitted_all_the_same(state, arguments, named):
    outcome = emit(*arguments)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert outcome.stderr.startswith(f"claude-loop: {arguments[0]} lacks {named}")
    assert outcome.stderr.count("\n") == 1
    assert len(spooled(state)) == 1
    quiet = emit(*arguments, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert len(spooled(state)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["test.run", "--story", "S", "passed=many", "failed:=0"], 'test.run cannot have `passed` "many"'),
        (["test.run", "--story", "S", "passed:=-1", "failed:=true"], "test.run cannot have `passed` -1, `failed` true"),
        (["run.completed", "success=yes"], 'run.completed cannot have `success` "yes"'),
        (["agent.waiting", "for=me", "reason=x"], 'agent.waiting cannot have `for` "me"'),
        (["prd.forgotten", "--prd", "P"], "prd.forgotten is said by the daemon alone"),
    ],
)
def test_what_cannot_be_is_said_and_the_event_is_emitted_all_the_same(state, arguments, said):
    outcome = emit(*arguments)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert outcome.stderr.startswith(f"claude-loop: {said}")
    assert "`_invalid`" in outcome.stderr
    assert len(spooled(state)) == 1
    assert emit(*arguments, "--quiet").output == ""


@pytest.mark.parametrize("prd", ["a\tb", "x" * 129])
def test_an_id_that_is_none_is_said(state, prd):
    outcome = emit("note.made", "--prd", prd)
    assert (outcome.exit_code, outcome.stderr.startswith("claude-loop: --prd ")) == (0, True)
    assert outcome.stderr.count("\n") == 1
    assert len(spooled(state)) == 1


VALUES = st.one_of(
    st.sampled_from(
        ["", "7", "07", "-7", "1.5", ".5", "5.", "1e3", "1e", " 7", "7 ", "٧", "many", "yes", "true", "True"]
    ),
    st.sampled_from([0, 1, -1, 7.0, 7.5, -0.5, True, False, [], {}, [7], 1e300]),
    st.text(max_size=3),
)


@pytest.mark.parametrize("type_", sorted(type_ for type_, fields in REQUIRED.items() if fields))
@given(data=st.data())
def test_what_it_doubts_is_refused_by_the_catalogue(type_, data):
    right = {"success": True, "story_id": "S", "commit_hash": "abcd", "for": "human", "stories": []}
    payload = {field: right.get(field, "x" if field not in NUMBERS else 1) for field in REQUIRED[type_]}
    CATALOGUE[type_].complete(payload, None)  # else the refusals below say nothing
    for field in REQUIRED[type_]:
        value = data.draw(VALUES)
        if misread(type_, {field: value}):
            with pytest.raises(InvalidEvent):
                CATALOGUE[type_].complete(payload | {field: value}, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["test.run", "--story", "S", "passed=12", "failed=0"],
        ["test.run", "--story", "S", "passed:=1", "failed:=0"],
        ["test.run", "story_id=S", "passed:=1", "failed:=0"],
        ["story.completed", "--story", "S", "status=completed"],
        ["mine.own"],
        ["stage.started"],
        ["task.started"],
        ["agent.resumed"],
    ],
)
def test_what_is_complete_gets_no_word(state, arguments):
    assert emit(*arguments).output == ""
    assert len(spooled(state)) == 1


def test_the_story_may_come_from_the_environment(state, monkeypatch):
    monkeypatch.setenv("CLAUDE_LOOP_STORY", "S")
    assert emit("story.started").output == ""


def test_a_closed_stderr_changes_nothing(state):
    command = [sys.executable, "-m", "claude_loop", "emit", "test.run"]
    for redirection in ("2>&-", "2>/dev/full"):
        shell = ["sh", "-c", f'"$@" {redirection}', "sh", *command]
        for unbuffered in ("", "1"):
            environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
            outcome = subprocess.run(shell, stdout=subprocess.PIPE, cwd=ROOT, env=environment, timeout=30, check=False)
            assert (outcome.returncode, outcome.stdout) == (0, b"")
    assert len(spooled(state)) == 4


def test_the_fields_it_looks_for_are_those_of_the_catalogue():
    for type_, known in CATALOGUE.items():
        filled_in = {"status", "total"} if type_ == "test.run" else {"status"}
        wanted = set(known.adapter.json_schema().get("required", [])) - filled_in
        assert set(REQUIRED[type_]) == wanted, type_
    assert set(REQUIRED) == set(CATALOGUE)
    assert RESERVED == RESERVED_TYPES


@pytest.mark.parametrize(
    ("type_", "near"), [("test.rnu", "test.run"), ("story.start", "story.started"), ("log.mesage", "log.message")]
)
def test_a_type_that_is_nearly_a_known_one_is_doubted_and_emitted_all_the_same(state, type_, near):
    outcome = emit(type_)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert outcome.stderr.startswith(f"claude-loop: {type_} is none of the known types; did you mean {near}?")
    assert outcome.stderr.count("\n") == 1
    assert [event["type"] for event in spooled(state)] == [type_]
    assert emit(type_, "--quiet").output == ""


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

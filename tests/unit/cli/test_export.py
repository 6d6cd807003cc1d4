"""`export`: what it writes, and that no text of an event gets out of the place it is put in."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from claude_loop import resources
from claude_loop.cli import replay_file
from claude_loop.cli.export import COLUMNS, _output, export, stored_events, write_csv, write_jsonl
from claude_loop.cli.replay_file import PLACE, as_script, template
from claude_loop.errors import Internal, NotSupported
from tests.support import PATIENCE


def event(**fields: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {"seq": 1, "id": "e1", "type": "note.made", "data": {}} | fields


def test_jsonl_is_the_events():
    events = [event(data={"text": 'a\n"b" é\u2028'}), event(seq=2)]
    stream = io.StringIO()
    assert write_jsonl(iter(events), stream) == 2
    assert [json.loads(line) for line in stream.getvalue().split("\n")[:-1]] == events


def test_csv_has_a_row_for_each_event_and_runs_nothing():
    stream = io.StringIO()
    hostile = '=HYPERLINK("http://x","y")'
    assert write_csv([event(id=hostile, project="-1+1", data={"a": "x,\ny"}), event(seq=2)], stream) == 2
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert (rows[0]["id"], rows[0]["project"]) == (f"'{hostile}", "'-1+1")
    assert json.loads(rows[0]["data"]) == {"a": "x,\ny"}
    assert rows[1]["run_id"] == ""


def test_what_a_terminal_would_obey_is_escaped():
    texts = {"text": "a\x9b31mb\x7f\u202ec", "é": "ß"}
    for write, read in ((write_jsonl, json.loads), (write_csv, _data_of_row)):
        stream = io.StringIO()
        write([event(data=texts)], stream)
        assert not set("\x9b\x7f\u202e") & set(stream.getvalue())
        assert "ß" in stream.getvalue()
        assert read(stream.getvalue())["data"] == texts


def _data_of_row(table: str) -> dict[str, Any]:
    (row,) = csv.DictReader(io.StringIO(table, newline=""))
    return {"data": json.loads(row["data"])}


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2))
)
def test_nothing_in_the_replay_can_end_its_script_element(value: Any):
    script = as_script(value)
    assert not set("<>&\u2028\u2029") & set(script)
    assert json.loads(script) == value


class Client:
    """A daemon that gives one event a page."""

    def __init__(self, *, pruned: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self._pruned = pruned

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        if path == "/status":
            return {"log": {"cursor": "end"}}
        assert query is not None
        self.asked.append(query)
        number = len(self.asked)
        reset = {"reset": {"reason": "trimmed"}} if self._pruned and number == 2 else {}
        return {"events": [event(seq=number)], "cursor": f"c{number}", "more": number < 3, **reset}


def test_pages_follow_each_other_up_to_the_end_as_it_was(capsys: pytest.CaptureFixture[str]):
    client = Client()
    assert [one["seq"] for one in stored_events(client, {"prd_id": "P"})] == [1, 2, 3]  # type: ignore[arg-type]
    assert [(asked["after"], asked["before"]) for asked in client.asked] == [
        (None, "end"),
        ("c1", "end"),
        ("c2", "end"),
    ]
    assert capsys.readouterr().err == ""


def test_a_pruning_meanwhile_is_told(capsys: pytest.CaptureFixture[str]):
    list(stored_events(Client(pruned=True), {}))  # type: ignore[arg-type]
    assert "pruned" in capsys.readouterr().err


def test_a_page_that_was_never_built_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(resources, "replay_page", lambda: tmp_path / "export.html")
    with pytest.raises(NotSupported) as refusal:
        template()
    assert "npm run build" in refusal.value.hint


@pytest.mark.parametrize("page", ["<html></html>", f"{PLACE}{PLACE}"])
def test_a_page_without_exactly_one_place_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str):
    path = tmp_path / "export.html"
    path.write_text(page)
    monkeypatch.setattr(replay_file.resources, "replay_page", lambda: path)
    with pytest.raises(Internal):
        template()


def test_a_replay_is_of_one_prd():
    answer = CliRunner().invoke(export, ["--format", "html"])
    assert answer.exit_code == 2
    assert "--prd" in answer.output


def test_a_page_is_not_written_to_a_terminal():
    terminal, ours = os.openpty()
    try:
        command = [sys.executable, "-m", "claude_loop", "export", "--prd", "P-1", "--format", "html"]
        done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    finally:
        os.close(ours)
        os.close(terminal)
    assert done.returncode == 2
    assert "--output FILE" in done.stderr


def test_it_is_written_through_no_link_that_somebody_put_there(tmp_path: Path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / f"out.{os.getpid()}.part").symlink_to(mine)
    with pytest.raises(FileExistsError), _output(tmp_path / "out"):
        pass
    assert mine.read_text() == "mine"

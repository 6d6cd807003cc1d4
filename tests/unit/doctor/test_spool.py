from __future__ import annotations

import json
import os
import shlex

from claude_loop.doctor import spool as checks
from tests.unit.doctor.scenes import answering, findings, only, prepared, scene


def test_an_empty_spool_and_none():
    assert only(checks.backlog, scene()).level == "ok"
    prepared()
    assert only(checks.backlog, scene()).level == "ok"
    assert findings(checks.writable, scene()) == findings(checks.foreign, scene()) == []


def test_what_waits_for_a_daemon():
    home = prepared()
    (home.spool / "1-2-3.jsonl").write_text("\n{}\n")
    found = only(checks.backlog, scene())
    assert (found.level, found.fix) == ("warning", "claude-loop up")
    assert "1 file" in found.sentence


def test_a_daemon_that_is_behind():
    for figures, level in [
        ({"backlog_files": 0, "backlog_bytes": 0}, "ok"),
        ({"backlog_files": 2, "backlog_bytes": 500}, "ok"),
        ({"backlog_files": 2, "backlog_bytes": 90_000_000}, "warning"),
        ({"backlog_files": 2, "backlog_bytes": 500, "failure": "storage_full"}, "problem"),
    ]:
        assert only(checks.backlog, scene(answering(spool=figures))).level == level


def test_rejected_lines_are_told_with_their_reasons_and_without_their_text():
    home = prepared()
    assert only(checks.rejected_lines, scene()).level == "ok"
    path = home.rejected / "lines.jsonl"
    notes = [{"file": f"{n}.jsonl", "reason": f"reason {n}", "line": "canary"} for n in range(5)]
    path.write_text("".join(json.dumps(note) + "\n" for note in notes) + '{"torn')
    found = only(checks.rejected_lines, scene())
    assert found.level == "warning"
    assert "reason 4" in found.sentence
    assert "reason 0" not in found.sentence
    assert "canary" not in found.sentence
    assert found.fix.endswith(f"rm {shlex.quote(str(path))}")


def test_files_that_were_moved_aside():
    home = prepared()
    assert findings(checks.set_aside, scene()) == []
    (home.rejected / "123-odd.name").touch()
    assert only(checks.set_aside, scene()).level == "warning"


def test_files_of_somebody_else(monkeypatch):
    home = prepared()
    (home.spool / "1-2-3.jsonl").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert only(checks.foreign, scene()).fix == f"sudo chown 4711 {home.spool / '1-2-3.jsonl'}"


def test_a_spool_that_cannot_be_written(monkeypatch):
    prepared()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert only(checks.writable, scene()).level == "problem"

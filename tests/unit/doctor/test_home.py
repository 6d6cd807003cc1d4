from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import subprocess

import pytest

from claude_loop.clock import SystemClock
from claude_loop.doctor import home as checks
from claude_loop.eventlog.migrations import STEPS
from claude_loop.paths import Home
from claude_loop.transports.token_store import TokenStore
from tests.unit.doctor.scenes import findings, only, prepared, scene


def test_a_home_that_is_not_there_is_none_of_our_troubles(home):
    assert only(checks.directory, scene()).level == "ok"
    assert findings(checks.parts, scene()) == findings(checks.files, scene()) == findings(checks.token, scene()) == []
    assert not home.exists()


def test_a_home_as_we_make_it_is_well():
    prepared()
    for check in checks.CHECKS.values():
        assert {one.level for one in findings(check, scene())} <= {"ok"}


@pytest.mark.parametrize("name", ["", "spool", "events.db"])
def test_what_others_may_read_is_mended_by_the_command_that_is_named(name):
    home = prepared()
    home.database.touch(mode=0o600)
    path = home.root / name
    path.chmod(0o755)
    found = [one for check in checks.CHECKS.values() for one in check(scene()) if one.level != "ok"]
    assert [one.level for one in found] == ["warning"]
    subprocess.run(shlex.split(found[0].fix), check=True)
    assert path.stat().st_mode & 0o077 == 0
    assert [one for check in checks.CHECKS.values() for one in check(scene()) if one.level != "ok"] == []


def test_a_home_that_is_a_file(home):
    home.touch()
    assert only(checks.directory, scene()).level == "problem"


def test_a_link_inside_is_a_problem(tmp_path):
    home = prepared()
    shutil.rmtree(home.spool)
    home.spool.symlink_to(tmp_path)
    found = only(checks.parts, scene())
    assert (found.level, found.fix) == ("problem", f"rm {home.spool}")


def test_a_database_that_is_a_link(tmp_path):
    home = prepared()
    home.database.symlink_to(tmp_path / "elsewhere")
    assert only(checks.files, scene()).level == "problem"


def test_another_user_s_home_is_a_problem(monkeypatch):
    prepared()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    found = only(checks.directory, scene())
    assert found.level == "problem"
    assert "belongs to uid" in found.sentence


def test_a_network_file_system_is_a_problem(monkeypatch):
    prepared()
    monkeypatch.setattr(checks, "file_system_type", lambda _: "nfs4")
    assert only(checks.file_system, scene()).level == "problem"


def test_a_token_that_others_may_read_is_named_and_not_shown():
    home = prepared()
    home.token.write_text("clt_" + "s" * 43)
    home.token.chmod(0o644)
    found = only(checks.token, scene())
    assert found.level == "problem"
    assert "ssss" not in found.sentence + found.fix
    home.token.chmod(0o600)
    assert only(checks.token, scene()).level == "ok"


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({"f_bavail": 0}, "problem"),
        ({"f_bavail": 1000}, "warning"),
        ({"f_favail": 0}, "problem"),
        ({"f_flag": os.ST_RDONLY}, "problem"),
        ({}, "ok"),
    ],
)
def test_room_on_the_disk(monkeypatch, change, level):
    plenty = {"f_bavail": 10**9, "f_frsize": 4096, "f_flag": 0, "f_files": 100, "f_favail": 50}
    volume = type("Volume", (), plenty | change)
    monkeypatch.setattr(os, "statvfs", lambda _: volume)
    assert only(checks.disk, scene()).level == level


def database(version: int) -> Home:
    home = prepared()
    with sqlite3.connect(home.database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS one (two)")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    return home


def test_a_log_of_a_later_version_is_told_from_its_first_bytes():
    home = database(len(STEPS) + 1)
    before = sorted(os.listdir(home.root))
    assert "later version" in only(checks.log_file, scene()).sentence
    assert sorted(os.listdir(home.root)) == before
    database(len(STEPS))
    assert findings(checks.log_file, scene()) == []


def test_a_log_that_is_a_pipe_is_not_waited_for():
    home = prepared()
    os.mkfifo(home.database)
    assert "not a regular file" in only(checks.log_file, scene()).sentence


def test_a_log_that_is_no_database():
    home = prepared()
    home.database.write_bytes(b"not SQLite at all" * 10)
    found = only(checks.log_file, scene())
    assert (found.level, found.fix) == ("problem", f"mv {home.database} {home.database}.damaged")


def test_named_tokens():
    home = prepared()
    assert findings(checks.tokens, scene()) == []
    store = TokenStore(home.tokens)
    clock = SystemClock()
    store.create("kept", ["read"], None, clock)
    assert findings(checks.tokens, scene()) == []
    store.create("old", ["read"], clock.now_us() - 1, clock)
    found = only(checks.tokens, scene())
    assert (found.level, found.fix) == ("warning", "claude-loop token revoke old")
    home.tokens.chmod(0o644)
    found = only(checks.tokens, scene())
    assert found.level == "problem"
    assert "No named token holds" in found.sentence

from __future__ import annotations

import os
import socket

import pytest

from claude_loop import __version__
from claude_loop.build import full_version
from claude_loop.doctor import daemon as checks
from claude_loop.doctor.scene import Daemon, look_around
from claude_loop.instance import DaemonNote, InstanceLock
from claude_loop.settings import config_file
from claude_loop.transports.port_holder import Holder, holder
from tests.unit.doctor.scenes import answering, findings, only, prepared, scene

NOTE = DaemonNote(4711, "http://127.0.0.1:18790", __version__, "2026-01-26T12:00:00.000Z")


def configure(text: str) -> None:
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_text(text)
    config_file().chmod(0o600)


def looked(tmp_path):
    from claude_loop.paths import Home

    return look_around(Home.from_environment(), os.environ, tmp_path)


def test_no_settings_and_good_ones(tmp_path):
    assert only(checks.settings, looked(tmp_path)).level == "ok"
    configure("port = 18791\n")
    assert only(checks.settings, looked(tmp_path)).level == "ok"


@pytest.mark.parametrize("text", ["port = 99999999", "port = ", "[limits]\nnonsense = 1", "prot = 18791"])
def test_settings_that_keep_the_daemon_from_starting(tmp_path, text):
    configure(text)
    found = only(checks.settings, looked(tmp_path))
    assert found.level == "problem"
    assert str(config_file()) in found.fix
    assert findings(checks.port, looked(tmp_path)) == []


def test_a_setting_in_the_environment_is_looked_for_there(tmp_path, monkeypatch):
    configure("port = 18791\n")
    monkeypatch.setenv("CLAUDE_LOOP_DURABILITY", "some")
    found = only(checks.settings, looked(tmp_path))
    assert "CLAUDE_LOOP_DURABILITY must be one of full, normal" in found.sentence
    assert found.fix == "env | grep ^CLAUDE_LOOP_"


def test_addresses_that_others_may_read(tmp_path):
    configure('[[notify]]\nname = "phone"\nurls = ["ntfy://canary-topic"]\n')
    config_file().chmod(0o644)
    found = [one for one in checks.settings(looked(tmp_path)) if one.level != "ok"]
    assert [one.fix for one in found] == [f"chmod 600 {config_file()}"]


def test_variables_that_mislead():
    assert findings(checks.surroundings, scene(environ={})) == []
    environ = {"CLAUDE_LOOP_DISABLE": "1", "CLAUDE_LOOP_URL": "https://me:canary@elsewhere"}
    found = findings(checks.surroundings, scene(environ=environ))
    assert [one.level for one in found] == ["warning", "warning"]
    assert "canary" not in str(found)


def test_variables_that_are_nearly_settings():
    others = ("HOME", "PROJECT", "PRD", "STORY", "RUN", "SESSION", "DISABLE", "URL", "TOKEN", "AUTOSTART", "LOCKS_DIR")
    good = {f"CLAUDE_LOOP_{name}": "1" for name in (*others, "PORT", "LIMITS__CONNECTIONS", "MY_OWN")}
    assert findings(checks.names, scene(environ=good)) == []
    wrong = {"CLAUDE_LOOP_PROT": "canary", "CLAUDE_LOOP_LIMTS__CONNECTIONS": "1", "PROT": "1"}
    first, second = findings(checks.names, scene(environ=good | wrong))
    assert first.sentence == (
        "CLAUDE_LOOP_LIMTS__CONNECTIONS is no setting. Did you mean CLAUDE_LOOP_LIMITS__CONNECTIONS?"
    )
    assert second == (
        "warning",
        "CLAUDE_LOOP_PROT is no setting. Did you mean CLAUDE_LOOP_PORT?",
        "unset CLAUDE_LOOP_PROT",
    )


@pytest.mark.parametrize(
    ("daemon", "level", "fix"),
    [
        (answering(), "ok", ""),
        (answering(status="unhealthy", reason="No space is left."), "problem", "claude-loop status"),
        (Daemon(runs=True, pid=4711, failure="It does not answer."), "problem", checks.AGAIN),
        (Daemon(runs=False), "warning", "claude-loop up"),
        (Daemon(runs=False, note=NOTE), "warning", "claude-loop up"),
    ],
)
def test_how_the_daemon_is(daemon, level, fix):
    found = only(checks.answer, scene(daemon))
    assert (found.level, found.fix) == (level, fix)


def test_a_note_that_a_crash_left(tmp_path):
    home = prepared()
    NOTE.write(home)
    assert "pid 4711 crashed" in only(checks.answer, looked(tmp_path)).sentence


def test_a_daemon_that_hangs_is_a_problem(tmp_path, monkeypatch):
    """Somebody holds the lock, and nobody answers."""
    lock = InstanceLock(prepared())
    lock.acquire()
    try:
        assert only(checks.answer, looked(tmp_path)).level == "problem"
    finally:
        lock.release()


def test_an_outdated_daemon_is_told():
    assert only(checks.version, scene(answering(version=full_version()))).level == "ok"
    for version in ("0.0.9", __version__, f"{__version__}+0123456789"):
        found = only(checks.version, scene(answering(version=version)))
        assert (found.level, found.fix) == ("warning", "claude-loop up")


def test_notes_that_do_not_lead_to_the_daemon():
    running = answering()
    assert findings(checks.note, scene(running)) == []
    astray = Daemon(runs=True, pid=None, note=NOTE, status=running.status)
    missing = Daemon(runs=True, pid=None, note=None, status=running.status)
    assert [only(checks.note, scene(one)).level for one in (astray, missing)] == ["warning", "warning"]


def test_a_port_that_is_free_and_one_that_is_taken(port):
    assert only(checks.port, scene(port=port)).level == "ok"
    with socket.create_server(("127.0.0.1", port)) as listener:
        found = only(checks.port, scene(port=port))
        assert found.level == "problem"
        assert f"process {os.getpid()}" in found.sentence
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has connected: that might start a daemon
            listener.accept()


def test_a_port_that_systemd_holds_is_as_it_should_be(monkeypatch, port):
    monkeypatch.setattr(checks, "holder", lambda *_: Holder(os.geteuid(), 1234, "systemd"))
    assert only(checks.port, scene(port=port)).level == "ok"
    monkeypatch.setattr(checks, "holder", lambda *_: Holder(os.geteuid() + 1, None, ""))
    assert only(checks.port, scene(port=port)).level == "problem"


@pytest.mark.requires("linux")
def test_a_port_that_a_daemon_of_another_home_has_is_said_to_be_that_homes(monkeypatch, port):
    home = prepared()
    home.database.touch()
    lock = InstanceLock(home)
    lock.acquire()
    monkeypatch.setattr(checks, "holder", lambda *_: Holder(os.geteuid(), os.getpid(), "python"))
    try:
        found = only(checks.port, scene(port=port))
    finally:
        lock.release()
    assert f": the claude-loop daemon of {home.root}." in found.sentence


def test_a_daemon_on_another_port_than_the_settings_say():
    assert only(checks.port, scene(answering(), port=18790)).level == "ok"
    assert only(checks.port, scene(answering(), port=18791)).level == "warning"
    assert only(checks.port, scene(answering(), port=0)).level == "ok"


def test_where_nobody_can_tell_who_listens(monkeypatch, port):
    monkeypatch.setattr("sys.platform", "darwin")
    assert only(checks.port, scene(port=port)).level == "ok"
    with pytest.raises(OSError, match="only Linux"):
        holder("127.0.0.1", port)


def test_what_tls_lacks_is_said(tmp_path):
    assert findings(checks.tls, scene()) == []
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert "both" in only(checks.tls, scene(tls_cert=cert)).sentence
    assert "cannot be used" in only(checks.tls, scene(tls_cert=cert, tls_key=key)).sentence
    found = only(checks.tls, scene(host="0.0.0.0"))
    assert (found.level, "127.0.0.1" in found.fix) == ("problem", True)
    assert findings(checks.tls, scene(host="0.0.0.0", insecure_behind_proxy=True)) == []

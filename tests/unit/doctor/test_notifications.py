from __future__ import annotations

import socket
from typing import Any

import pytest

from claude_loop.doctor import notifications as checks
from claude_loop.doctor.notifications import Server
from tests.unit.doctor.scenes import answering, findings, only, scene

CANARY = "canary0123456789abcdef"


def with_channel(**channel: Any):
    return scene(notify=({"name": "phone", **channel},))


def test_none_is_no_trouble():
    assert only(checks.channels, scene()).level == "ok"
    assert findings(checks.deliveries, scene()) == []


@pytest.mark.parametrize(("program", "level"), [("sh", "ok"), ("not-a-program", "problem")])
def test_a_command(program, level):
    assert only(checks.channels, with_channel(command=(program, CANARY))).level == level


def test_an_address_that_can_be_reached_gets_not_a_byte(port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        found = only(checks.channels, with_channel(urls=(f"json://127.0.0.1:{port}/{CANARY}",)))
        assert found.level == "ok"
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""


def test_one_that_cannot_is_told_without_its_address(port):
    found = only(checks.channels, with_channel(urls=(f"json://user:{CANARY}@127.0.0.1:{port}/{CANARY}",)))
    assert (found.level, found.fix) == ("warning", "claude-loop notify test --channel phone")
    assert CANARY not in found.sentence


def test_one_that_apprise_does_not_know():
    found = only(checks.channels, with_channel(urls=(f"nonsense://{CANARY}",)))
    assert found.level == "problem"
    assert CANARY not in str(found)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("ntfy://topic", Server("ntfy.sh", 443)),
        ("ntfys://push.example/topic", Server("push.example", 443)),
        ("discord://123456789012345678/abcdefghijklmnopqrstuvwxyz", Server("discord.com", 443)),
        ("tgram://123456789:abcdefghijklmnop/12345", Server("api.telegram.org", 443)),
        ("mailto://u:p@mail.example:2525?smtp=smtp.example", Server("smtp.example", 2525)),
        ("gotify://push.example/abcdefghijklmno", Server("push.example", 80)),
        ("slack://TOKENA12/TOKENB123/abcdefghijklmnopqrstuvwx/#x", None),  # its host is a secret, and no server
    ],
)
def test_where_a_service_leads(url, server):
    assert checks.server_of(checks._service(url)) == server


def test_what_the_daemon_has_seen():
    def status(**channel: Any):
        return answering(notify={"channels": [{"name": "phone", "failing_since": None, **channel}], "dead_letters": []})

    assert findings(checks.deliveries, scene(status())) == []
    failing = status(failing_since="2026-01-26T12:00:00.000Z", reason="refused with status 403")
    assert "refused with status 403" in only(checks.deliveries, scene(failing)).sentence
    given_up = answering(notify={"channels": [], "dead_letters": [{}]})
    assert only(checks.deliveries, scene(given_up)).fix == "claude-loop notify status"


def test_a_daemon_that_began_before_the_channels_were_set_up():
    where = scene(answering(notify=None), notify=({"name": "phone", "command": ("true",)},))
    assert only(checks.deliveries, where).level == "warning"

"""Notifications from the real daemon to a local receiver: each once, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.notify_receiver import configure, receiving
from tests.support import until

CHANNEL = """
[[notify]]
name = "phone"
urls = ["{url}"]
grace = {grace}
{more}
"""


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


def start(home, receiver, grace=0, more=""):
    configure(home, CHANNEL.format(url=receiver.url, grace=grace, more=more))
    daemon = Daemon(home)
    daemon.environ["XDG_CONFIG_HOME"] = str(home.parent / "config")
    daemon.start()
    return daemon


def emit(daemon, type_, *data, prd="SHOP-7"):
    done = daemon.run("emit", type_, "--project", "shop", "--prd", prd, "--wait", *data)
    assert done.returncode == 0, done.stderr


def wait_for_a_person(daemon, reason="permission Bash rm -rf build", prd="SHOP-7"):
    emit(daemon, "prd.started", prd=prd)
    emit(daemon, "agent.waiting", "for=human", f"reason={reason}", prd=prd)


def alerts(daemon):
    listed = daemon.run("tail", "--no-follow", "--json", "--type", "alert.*", "-n", "100")
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_a_wait_is_told_once_and_soon_and_followed_by_its_end(home, receiver):
    daemon = start(home, receiver)
    emit(daemon, "prd.started")
    emit(daemon, "agent.waiting", "for=human", "reason=permission Bash rm -rf build")
    stored = time.monotonic()
    until(lambda: receiver.bodies)
    took = time.monotonic() - stored
    assert receiver.texts == ["SHOP-7 waits for you: permission Bash rm -rf build"]
    assert receiver.bodies[0]["message"].endswith(f"\n{daemon.url}/prd/SHOP-7?project=shop")
    assert took < 6  # a loaded machine starts the courier in its own time; the figure is in bench
    emit(daemon, "agent.resumed")
    until(lambda: len(receiver.bodies) == 2)
    assert receiver.texts[1].startswith("Resolved: SHOP-7 no longer waits: permission Bash rm -rf build")
    until(lambda: len(alerts(daemon)) == 2)
    sent, resolved = alerts(daemon)
    assert (sent["type"], resolved["type"]) == ("alert.sent", "alert.resolved")
    assert (sent["project"], sent["prd_id"], sent["source"]) == ("shop", "SHOP-7", "daemon")
    assert sent["run_id"]
    assert sent["data"]["kind"] == "waiting"
    assert sent["data"]["channel"] == "phone"
    status = daemon.run("notify", "status")
    assert "phone: 2 sent, 0 waiting, 0 given up" in status.stdout
    assert daemon.stop() == 0


def test_a_test_says_what_the_running_daemon_has_not_read_yet(home, receiver):
    daemon = start(home, receiver)
    assert daemon.run("notify", "test").stderr == ""
    configure(
        home,
        CHANNEL.format(url=receiver.url, grace=0, more="") + f'[[notify]]\nname = "desk"\nurls = ["{receiver.url}"]\n',
    )
    done = daemon.run("notify", "test")
    assert (done.returncode, done.stdout) == (0, "phone: taken\ndesk: taken\n")
    assert "The running daemon does not have desk: it reads its settings when it starts." in done.stderr
    assert "claude-loop down && claude-loop up" in done.stderr
    assert "was changed since" in daemon.run("notify", "test", "--channel", "phone").stderr
    daemon.stop()
    assert "No daemon is running." in daemon.run("notify", "test").stderr


def test_a_wait_that_ends_within_the_grace_is_never_sent(home, receiver):
    daemon = start(home, receiver, grace=4)
    wait_for_a_person(daemon)
    emit(daemon, "agent.resumed")
    emit(daemon, "prd.completed", "success:=false")  # has no grace: it comes, and nothing before it
    until(lambda: receiver.bodies)
    assert receiver.texts[0].startswith("SHOP-7 failed: it was reported as failed")
    assert [event["data"]["kind"] for event in until(lambda: alerts(daemon))] == ["failed"]
    daemon.stop()


@pytest.mark.parametrize("instant", ["before the request", "during the request", "after the request"])
def test_a_daemon_that_is_killed_sends_once_all_the_same(home, receiver, instant):
    daemon = start(home, receiver)
    if instant == "during the request":
        receiver.hold.clear()
    wait_for_a_person(daemon)
    if instant != "before the request":
        until(lambda: receiver.requests if instant == "during the request" else receiver.bodies)
    daemon.kill()
    receiver.hold.set()
    daemon.start()
    until(lambda: alerts(daemon))
    wait_for_a_person(daemon, prd="SHOP-8")
    until(lambda: any("SHOP-8" in text for text in receiver.texts))
    assert sorted(text.split()[0] for text in receiver.texts) == ["SHOP-7", "SHOP-8"]
    until(lambda: len(alerts(daemon)) == 2)
    assert receiver.requests == 2
    daemon.stop()


def test_what_was_old_when_the_channel_was_set_up_is_not_sent(home, receiver):
    configure(home, "")
    daemon = Daemon(home)
    daemon.start()
    hours_ago = time.time() - 3 * 3600
    for type_, data in (("prd.started", {}), ("agent.waiting", {"for": "human", "reason": "old"})):
        spool(daemon, type_, data, hours_ago)
    until(lambda: "old" in daemon.run("prds").stdout)
    daemon.stop()
    again = start(home, receiver)
    wait_for_a_person(again, "new", prd="SHOP-8")
    until(lambda: receiver.bodies)
    assert receiver.texts == ["SHOP-8 waits for you: new"]
    again.stop()


def spool(daemon, type_, data, at):
    event = {"id": f"old-{type_}", "type": type_, "project": "shop", "prd_id": "SHOP-7", "timestamp": at, "data": data}
    with (daemon.home.spool / f"{int(at * 1e6)}-1-abc.jsonl").open("a") as file:
        file.write(f"\n{json.dumps(event)}\n")
    # `received_at` is now, `timestamp` hours ago: the moment of the state is the earlier one


def test_no_address_is_seen_anywhere(home, receiver):
    receiver.status = 403
    daemon = start(home, receiver)
    receiver.hold.clear()
    wait_for_a_person(daemon)
    until(lambda: receiver.requests)
    lines = _command_lines()
    assert any(b"claude_loop.delivery.courier" in line for line in lines)
    receiver.hold.set()
    status = until(lambda: (text := daemon.run("status", "--json").stdout) and "status 403" in text and text)
    assert json.loads(status)["notify"]["channels"][0]["waiting"] == 1
    assert daemon.run("notify", "status").returncode == 1
    daemon.stop()
    files = [path.read_bytes() for path in [daemon.log, *home.rglob("*")] if path.is_file()]
    for text in [*lines, status.encode(), *files]:
        assert b"hunter2secret" not in text


def _command_lines():
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_a_channel_that_hangs_holds_up_no_other(home, receiver):
    with receiving() as stuck:
        stuck.hold.clear()
        other = f'[[notify]]\nname = "stuck"\nurls = ["{stuck.url}"]\ngrace = 0\ntime_limit = 30\n'
        daemon = start(home, receiver, more=other)
        wait_for_a_person(daemon)
        until(lambda: stuck.requests)
        until(lambda: receiver.bodies)
        wait_for_a_person(daemon, prd="SHOP-8")
        until(lambda: len(receiver.bodies) == 2)
        assert stuck.requests == 1
        stuck.hold.set()
        until(lambda: len(stuck.bodies) == 2)
        daemon.stop()


def test_the_heartbeat_comes_while_all_is_well(home, receiver):
    configure(home, f'[heartbeat]\nurl = "http://127.0.0.1:{receiver.port}/ping/hunter2secret"\nevery = 1\n')
    daemon = Daemon(home)
    daemon.environ["XDG_CONFIG_HOME"] = str(home.parent / "config")
    daemon.start()
    until(lambda: receiver.requests >= 2)
    assert "hunter2secret" not in daemon.run("status", "--json").stdout
    assert "heartbeat: last one at" in daemon.run("notify", "status").stdout
    daemon.stop()

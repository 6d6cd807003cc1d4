"""The courier as a process: commands and addresses, limits, and the receipt that outlives the daemon."""

import asyncio
import contextlib
import json
import socket
import sys
import threading
from pathlib import Path

import pytest

from claude_loop.delivery.dispatch import Dispatch, Target, targets_of
from claude_loop.settings import NotifySettings
from tests.notify_receiver import receiving
from tests.support import alive, eventually, until

MESSAGE = {
    "message_id": "alert-1",
    "title": "shop/SHOP-7: waiting",
    "text": "SHOP-7 waits for you: “quotes” & $HOME",
    "phase": "alert",
    "url": None,
    "prd_id": "SHOP-7",
}


@pytest.fixture
def dispatch(tmp_path):
    return Dispatch(tmp_path / "notify")


# To load apprise takes a loaded machine longer than a message may take by default.
PATIENT = {"time_limit": 120}


def command(*line, **settings):
    return Target("desk", NotifySettings(name="desk", command=line, **(PATIENT | settings)))


def address(url, **settings):
    (found,) = targets_of((NotifySettings(name="phone", urls=(url,), **(PATIENT | settings)),))
    return found


async def test_a_command_gets_the_message_on_stdin_and_in_variables(dispatch, tmp_path):
    script = f'cat > {tmp_path}/got; printf %s "$CLAUDE_LOOP_NOTIFY_TEXT,$CLAUDE_LOOP_NOTIFY_URL" > {tmp_path}/text'
    outcome = await dispatch.send(command("sh", "-c", script), MESSAGE)
    assert outcome.sent
    assert json.loads((tmp_path / "got").read_text()) == MESSAGE
    assert (tmp_path / "text").read_text() == f"{MESSAGE['text']},"
    dispatch.settled("alert-1")
    assert list((tmp_path / "notify").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["sh", "-c", "exit 3"], "the command ended with status 3"),
        (["/nowhere/at-all"], "No such file or directory"),
        (["sh", "-c", "exec <&-; exit 4"], "the command ended with status 4"),
    ],
)
async def test_a_command_that_fails(dispatch, line, reason):
    assert await dispatch.send(command(*line), MESSAGE) == (False, reason)


async def test_a_command_that_does_not_read_has_taken_it_all_the_same(dispatch):
    assert (await dispatch.send(command("true"), MESSAGE | {"text": "x" * 200_000})).reason in (
        "",
        "Argument list too long",  # no variable may be that long
    )


async def test_a_command_that_hangs_is_ended_with_what_it_started(dispatch, tmp_path):
    script = f"sleep 300 & echo $! > {tmp_path}/pid; wait"
    outcome = await dispatch.send(command("sh", "-c", script, time_limit=3), MESSAGE)
    assert outcome == (False, "no answer within 3 s")
    child = int((tmp_path / "pid").read_text())
    until(lambda: not alive(child))


async def test_an_address_is_delivered_to_and_refusals_have_a_status(dispatch):
    with receiving() as receiver:
        assert await dispatch.send(address(receiver.url), MESSAGE) == (True, "")
        assert receiver.texts == [MESSAGE["text"]]
        receiver.status = 404
        assert await dispatch.send(address(receiver.url), MESSAGE) == (False, "refused with status 404")
        receiver.status = 200
        receiver.hold.clear()
        outcome = await dispatch.send(address(receiver.url, time_limit=1), MESSAGE)
        assert outcome == (False, "no answer within 1 s")
    assert not (await dispatch.send(address(receiver.url), MESSAGE)).sent  # nobody listens any more
    outcome = await dispatch.send(address("nonsense://hunter2"), MESSAGE)
    assert outcome == (False, "apprise does not know how to use this address")


async def test_a_courier_that_is_left_alone_finishes_and_its_receipt_is_found(dispatch, tmp_path):
    started = asyncio.ensure_future(dispatch.send(command("sh", "-c", f"touch {tmp_path}/begun; sleep 0.5"), MESSAGE))
    await eventually((tmp_path / "begun").exists)
    started.cancel()
    assert await Dispatch(tmp_path / "notify").found("alert-1", 10) == (True, "")  # as after a restart
    assert await dispatch.found("alert-1", 10) == (True, "")
    assert await dispatch.found("alert-2", 10) is None


async def test_a_courier_that_died_left_no_receipt_to_go_by(dispatch, tmp_path):
    (tmp_path / "notify").mkdir()
    for number, content in enumerate(("", '{"sent": tr', "[]")):
        Path(tmp_path / "notify" / f"alert-{number}").write_text(content)
        assert await dispatch.found(f"alert-{number}", 10) is None


def test_each_address_is_a_target_of_its_own_that_does_not_show_it():
    channels = (
        NotifySettings(name="phone", urls=("ntfy://hunter2", "json://hunter2")),
        NotifySettings(name="desk", command=(sys.executable,)),
    )
    targets = targets_of(channels)
    assert [target.name for target in targets] == ["phone", "phone#2", "desk"]
    assert "hunter2" not in repr(targets)


async def test_an_answer_without_end_is_bounded_in_memory(dispatch):
    def endless(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
            while True:
                connection.sendall(b"x" * 4_000_000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=endless, args=(server,))
        thread.start()
        outcome = await dispatch.send(address(f"json://127.0.0.1:{server.getsockname()[1]}/"), MESSAGE)
        thread.join(30)
    assert not outcome.sent
    assert "no answer" not in outcome.reason  # memory ended it, long before time did

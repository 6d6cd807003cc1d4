"""What the daemon pays where nobody is to be told: nothing. And the heartbeat's silence while it is unwell."""

import subprocess
import sys

import aiohttp
import pytest

from claude_loop.clock import ManualClock
from claude_loop.delivery.heartbeat import Heartbeat
from claude_loop.settings import HeartbeatSettings
from tests.live_server import LiveServer
from tests.notify_receiver import receiving
from tests.support import ROOT


def test_the_server_loads_neither_apprise_nor_delivery_unless_asked():
    script = "import sys, claude_loop.websocket_server; print([m for m in sys.modules if 'apprise' in m or '.delivery' in m])"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


async def test_status_has_no_channels_then(home):
    async with LiveServer(home) as server:
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/status") as answer:
            assert (await answer.json())["notify"] is None
        assert not (home / "notify.db").exists()


@pytest.mark.parametrize("well", [True, False])
async def test_the_heartbeat_is_withheld_while_the_daemon_is_unwell(well):
    with receiving() as receiver:
        settings = HeartbeatSettings(url=f"http://127.0.0.1:{receiver.port}/hunter2", every=60)
        heart = Heartbeat(settings, lambda: well, ManualClock())
        await heart.beat()
        assert receiver.requests == int(well)
        assert bool(heart.report()["last_at"]) is well
        assert bool(heart.report()["reason"]) is not well


async def test_a_heartbeat_that_is_not_heard_says_why_without_the_address():
    with receiving() as receiver:
        settings = HeartbeatSettings(url=f"http://127.0.0.1:{receiver.port}/hunter2", every=60)
        heart = Heartbeat(settings, lambda: True, ManualClock())
        receiver.status = 500
        await heart.beat()
        assert heart.report() == {"last_at": None, "reason": "status 500"}
    await heart.beat()
    assert "hunter2" not in str(heart.report())
    assert "Connect" in heart.report()["reason"]

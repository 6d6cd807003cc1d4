"""The daemon's end: bounded, whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_loop.paths import Home
from tests.support import ROOT, until

DAEMON = """
import asyncio, time
from claude_loop import background, daemon
from claude_loop.eventlog.sqlite_writer import Writer
from claude_loop.settings import load_settings

daemon.STOP_SECONDS = {seconds}
{hang}
daemon.run(load_settings(port=0))
"""
DEAF_TASK = """
async def run(self):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
background.Retention.run = run
"""
HANGING_DISK = """
Writer.stop = lambda self: time.sleep(3600)
"""


@contextmanager
def daemon(home: Path, hang: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A running daemon that may take ``seconds`` to stop."""
    script = DAEMON.format(hang=hang, seconds=seconds)
    environment = {**os.environ, "CLAUDE_LOOP_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            until(lambda: Home(home).daemon_json.exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("hang", "named"), [(DEAF_TASK, "server/retention"), (HANGING_DISK, "eventlog-writer")])
def test_a_stop_that_hangs_ends_all_the_same_and_names_what_hung(home: Path, hang: str, named: str) -> None:
    with daemon(home, hang, seconds=1.0) as process:
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert 1.0 <= time.monotonic() - asked < 20.0
        assert "did not stop in time" in said
        assert named in said


def test_a_stop_in_time_says_nothing_of_it(home: Path) -> None:
    with daemon(home, "", seconds=30.0) as process:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "stopped" in said
        assert "in time" not in said

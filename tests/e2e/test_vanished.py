"""Loops that die without a word, in real time: shells that source the emitter, and a daemon that watches them."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from claude_loop.clock import parse_time
from tests.e2e.daemon import Daemon
from tests.support import BIN, until

pytestmark = pytest.mark.requires("linux")

# A run is owned once its shell has lived this long; the watch looks once a second.
OWNED_SECONDS = 5.0 + 3.0
VANISHED_SECONDS = 5.0

LOOP = """
set -euo pipefail
source emit_progress.sh
(emit_prd_started "$1" 2)          # in a subshell, and yet it is this shell's run
emit_story_started "$1" US-001
until [[ -e $2 ]]; do sleep 0.1; done
emit_prd_completed "$1" true
"""
ONE_SHOT = 'source emit_progress.sh; emit_prd_started "$1" 2'


class Loops:
    """A daemon, and shells that run loops under it. A loop ends when its file in ``folder`` appears."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.daemon = Daemon(home)
        self.folder = folder
        self.shells: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir()

    def run(self, prd: str, script: str = LOOP) -> None:
        environment = self.daemon.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        line = ["bash", "-c", script, "loop", prd, str(self.folder / prd)]
        self.shells[prd] = subprocess.Popen(line, env=environment, cwd=self.folder)

    def kill(self, prd: str) -> None:
        self.shells[prd].kill()
        self.shells[prd].wait(30)

    def finish(self, prd: str) -> None:
        (self.folder / prd).touch()
        assert self.shells[prd].wait(30) == 0

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.daemon.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def card(self, prd: str) -> dict[str, Any]:
        return next((card for card in self.get("/api/prds")["prds"] if card["prd_id"] == prd), {})

    def await_card(self, prd: str, seconds: float, **wanted: object) -> None:
        def as_wanted() -> bool:
            card = self.card(prd)
            return all(card.get(key) == value for key, value in wanted.items())

        until(as_wanted, seconds, f"{prd} is {wanted}, not {self.card(prd)}")

    def vanished_at(self, prd: str) -> float:
        """Seconds since the epoch."""
        (report,) = self.get(f"/api/events?type=system.run_vanished&prd_id={quote(prd)}")["events"]
        return parse_time(report["timestamp"]) / 1_000_000

    def reports(self) -> list[tuple[str, str]]:
        events = self.get("/api/events?type=system.*")["events"]
        return [(event["type"], event["prd_id"]) for event in events]

    def end(self) -> None:
        for shell in self.shells.values():
            shell.kill()
            shell.wait(30)
        self.daemon.stop()


@pytest.fixture
def loops(home: Path) -> Iterator[tuple[Loops, Loops]]:
    with ExitStack() as stack:
        made = []
        for name in ("first", "second"):
            each = Loops(home.with_name(name), home.with_name(f"{name}-folder"))
            each.daemon.start()
            stack.callback(each.end)
            made.append(each)
        yield made[0], made[1]


def test_a_loop_that_dies_without_a_word_is_noticed_and_no_other(loops):
    """The first daemon runs all the time; the second is restarted early on, and is down while a loop dies."""
    first, second = loops
    first.run("once", ONE_SHOT)
    for prd in ("killed", "finished", "lives"):
        first.run(prd)
    second.run("killed while nobody watched")
    assert second.daemon.stop() == 0
    second.daemon.start()
    for prd in ("killed", "finished", "lives"):
        first.await_card(prd, OWNED_SECONDS, owned=True, state="running")
    second.await_card("killed while nobody watched", OWNED_SECONDS, owned=True)

    started = first.get("/api/events?prd_id=killed&type=prd.started")["events"][0]
    assert started["data"]["owner"] == owner_of(first.shells["killed"].pid)

    first.finish("finished")
    first.kill("killed")
    killed = time.time()
    assert second.daemon.stop() == 0
    second.kill("killed while nobody watched")
    second.daemon.start()
    restarted = time.time()
    first.await_card("killed", 20, state="vanished")
    second.await_card("killed while nobody watched", 20, state="vanished")
    assert first.vanished_at("killed") - killed < VANISHED_SECONDS
    assert second.vanished_at("killed while nobody watched") - restarted < VANISHED_SECONDS

    assert first.card("finished")["state"] == "done·claimed"
    assert (first.card("once")["state"], first.card("once")["owned"]) == ("running", False)
    assert first.card("lives")["state"] == "running"
    assert sorted(first.reports()) == [
        ("system.run_owned", "finished"),
        ("system.run_owned", "killed"),
        ("system.run_owned", "lives"),
        ("system.run_vanished", "killed"),
    ]
    first.run("killed", 'source emit_progress.sh; emit_log_message killed "" info "back again"')
    first.await_card("killed", 5, state="running")


def owner_of(pid: int) -> dict[str, object]:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "start_ticks": int(ticks), "boot_id": boot_id}

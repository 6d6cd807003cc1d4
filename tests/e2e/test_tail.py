"""`tail` against a real daemon: across its crashes and restarts, and everything that can be asked of it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from claude_loop.cli.terminal import harmless_json
from claude_loop.client import DaemonClient
from tests.e2e.daemon import Daemon, shared_daemon
from tests.support import PATIENCE, ROOT, until

EVENTS = count(1)


class Tail:
    """A running `tail`; what it says is in files, so that it never waits for us."""

    def __init__(self, daemon: Daemon, *arguments: str, **environ: str) -> None:
        folder = Path(tempfile.mkdtemp(dir=daemon.home.root.parent))
        self._files = [folder / "out", folder / "err"]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "claude_loop", "tail", *arguments],
                env=daemon.environ | environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        return self._files[1].read_text()

    def lines(self, number: int) -> list[str]:
        """Everything said once there are so many lines."""
        return until(lambda: self.out.splitlines() if self.out.count("\n") >= number else [], what=self.err)

    def ends(self) -> int:
        return self.process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with shared_daemon(TZ="XYZ-02:15") as daemon:
        yield daemon


@pytest.fixture
def mine(home: Path) -> Iterator[Daemon]:
    """A daemon that the test may kill."""
    home.parent.mkdir(exist_ok=True)
    with Daemon(home) as daemon:
        yield daemon


@pytest.fixture
def prd() -> str:
    """A PRD of the test's own, in a log that it shares."""
    return f"PRD-{next(EVENTS)}"


def publish(daemon: Daemon, *events: dict[str, Any], prd: str = "P") -> list[int]:
    given = [{"prd_id": prd, "project": "shop", "source": "test"} | event for event in events]
    return [one["seq"] for one in DaemonClient(daemon.home).post("/api/events", given)["accepted"]]


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"type": "log.message", "data": {"level": "info", "message": f"number {number}"}} for number in numbers]


def messages(lines: list[str]) -> list[int]:
    return [int(json.loads(line)["data"]["message"].removeprefix("number ")) for line in lines]


def read(daemon: Daemon, prd: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What is stored, read to its end."""
    return daemon.run("tail", "--no-follow", "--prd", prd, *arguments)


def test_neither_gap_nor_repeat_across_crashes_and_restarts(mine) -> None:
    publish(mine, *numbered(0))
    with Tail(mine, "--json", "--since", "start") as tail, Tail(mine, "-n", "1000") as person:
        for round_ in range(4):
            first = 1 + round_ * 40
            publish(mine, *numbered(*range(first, first + 20)))
            for one in (tail, person):
                one.lines(first + 20)
            mine.kill() if round_ % 2 else mine.stop()
            # While it is down, events go to the spool and are among those that follow.
            spooled = mine.run("emit", "log.message", "--prd", "P", "level=info", f"message=number {first + 20}")
            assert (spooled.returncode, spooled.stderr) == (0, "")
            mine.start()
            tail.lines(first + 21)
            publish(mine, *numbered(*range(first + 21, first + 40)))
        publish(mine, {"type": "prd.completed", "data": {"success": True}})
        lines = tail.lines(162)
        assert messages(lines[:-1]) == list(range(161))
        assert [json.loads(line)["seq"] for line in lines] == list(range(1, 163))
        assert len(person.lines(162)) == 162
    for one in (tail, person):
        # On a machine that is busy a restart may take long enough for a word about that.
        words = [word for word in one.err.splitlines() if "daemon gone" not in word]
        assert len(words) == 4
    for word in words:
        assert re.fullmatch(r"-- daemon restarted; resumed after \d\d:\d\d:\d\d, nothing missed --", word)


def test_a_log_that_is_replaced_is_announced(mine) -> None:
    publish(mine, *numbered(*range(10)))
    mine.stop()
    backup = mine.home.root.with_name("backup")
    shutil.copytree(mine.home.root, backup, ignore=shutil.ignore_patterns("sock"))

    def restore() -> None:
        mine.stop()
        for file in mine.home.root.glob("events.db*"):
            file.unlink()
        for file in backup.glob("events.db*"):
            shutil.copy(file, mine.home.root)

    mine.start()
    with Tail(mine, "--json", "-n", "0") as tail:
        until(lambda: DaemonClient(mine.home).get("/status")["clients"] == 1)
        publish(mine, *numbered(10, 11))
        assert messages(tail.lines(2)) == [10, 11]
        restore()
        mine.start()  # the backup ends before what was seen
        until(lambda: "the log ends before what was seen; going on at its end" in tail.err)
        publish(mine, *numbered(12, 13))
        assert messages(tail.lines(4)) == [10, 11, 12, 13]
        restore()
        spooled = [mine.run("emit", "log.message", "--prd", "Q", "level=info", f"message=number {n}") for n in (20, 21)]
        assert [one.returncode for one in spooled] == [0, 0]
        hide(tail)
        mine.start()  # the backup again, filled with other events
        until(lambda: DaemonClient(mine.home).get("/status")["log"]["head"] == 12)
        show(tail)
        until(lambda: "the log was replaced by another copy; going on at its end" in tail.err)
        publish(mine, *numbered(22))
        assert messages(tail.lines(5)) == [10, 11, 12, 13, 22]
        mine.stop()
        for file in (*mine.home.root.glob("events.db*"), *mine.home.spool.iterdir(), *mine.home.leaving.iterdir()):
            file.unlink()
        mine.start()
        until(lambda: "the log is a new one; going on at its end" in tail.err)
        publish(mine, *numbered(30))
        assert messages(tail.lines(6)) == [10, 11, 12, 13, 22, 30]
    assert "nothing missed" not in tail.err


def hide(tail: Tail) -> None:
    """Stop the reader, so that it does not come back before the log is as the test wants it."""
    tail.process.send_signal(signal.SIGSTOP)


def show(tail: Tail) -> None:
    tail.process.send_signal(signal.SIGCONT)


def test_it_waits_for_a_daemon_that_stays_away_and_says_so_once(mine) -> None:
    publish(mine, *numbered(1))
    with Tail(mine, "--json") as tail:
        tail.lines(1)
        mine.stop()
        until(lambda: "daemon gone; waiting for it (`claude-loop up` starts it)" in tail.err)
        mine.start()
        publish(mine, *numbered(2))
        assert messages(tail.lines(2)) == [1, 2]
    assert len(tail.err.splitlines()) == 2


SAMPLE = [
    ("12:14:03", "prd.started", None, {"total_stories": 5}),
    ("12:15:00", "story.started", "US-001", {}),
    (
        "12:21:40",
        "test.run",
        "US-001",
        {"passed": 10, "failed": 2, "failures": [{"name": "test_total"}, {"name": "test_coupon"}]},
    ),
    ("12:22:00", "story.started", "US-001", {}),
    ("12:24:02", "test.run", "US-001", {"passed": 12, "failed": 0}),
    ("12:24:10", "commit.created", "US-001", {"commit_hash": "abc123d", "subject": "Cart totals"}),
    ("12:25:07", "story.completed", "US-001", {"success": True}),
    ("12:26:00", "agent.waiting", "US-002", {"for": "human", "reason": "permission Bash rm -rf build"}),
    ("12:27:00", "system.run_owned", None, {"pid": 1}),
    ("12:30:03", "prd.completed", None, {"success": True}),
]
SHOWN = """\
-- 2026-01-26 --
14:29:03 shop/SHOP-7         ▶ started, 5 stories
14:30:00 shop/SHOP-7 US-001  ▷ started
14:36:40 shop/SHOP-7 US-001  ✗ tests 10 passed 2 failed: test_total, test_coupon
14:37:00 shop/SHOP-7 US-001  ▷ started
14:39:02 shop/SHOP-7 US-001  ✓ tests 12 passed
14:39:10 shop/SHOP-7 US-001  ● commit abc123d Cart totals
14:40:07 shop/SHOP-7 US-001  ✓ done, verified · 10m07s · 2 attempts
14:41:00 shop/SHOP-7 US-002  ⏸ waiting for you: permission Bash rm -rf build
14:45:03 shop/SHOP-7         ■ done, claimed: 4 stories not started · 1 of 5 stories done · 16m00s
"""


def test_it_looks_like_this(shared) -> None:
    for at, type_, story, data in SAMPLE:
        event = {"type": type_, "story_id": story, "data": data, "timestamp": f"2026-01-26T{at}Z"}
        publish(shared, event, prd="SHOP-7")
    shown = read(shared, "SHOP-7")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == SHOWN
    assert read(shared, "SHOP-7", "-n", "2").stdout.splitlines()[1:] == SHOWN.splitlines()[-2:]
    owned = read(shared, "SHOP-7", "--type", "system.*").stdout.splitlines()[1:]
    assert owned == ["14:42:00 shop/SHOP-7         · its process is watched: 1"]


def test_json_is_each_event_as_it_is_stored(shared, prd) -> None:
    nested = {"type": "x.y", "data": {"text": "ü\u2028\x1b", "big": 2**60, "list": [1.0, None, {"a": []}]}}
    publish(shared, nested, *numbered(1), prd=prd)
    lines = read(shared, prd, "--json").stdout.split("\n")[:-1]
    stream = DaemonClient(shared.home).stream({"prd_id": prd, "from": "start"})
    stored = [next(message.data for message in stream if message.data) for _ in range(2)]
    assert lines == [harmless_json(event) for event in stored]
    assert "\u2028" not in lines[0]
    assert json.loads(lines[0])["data"] == nested["data"]
    assert json.loads(lines[0])["timestamp"].endswith("Z")
    ascii_only = subprocess.run(
        [sys.executable, "-m", "claude_loop", "tail", "--no-follow", "--json", "--prd", prd],
        env=shared.environ | {"PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert ascii_only.stdout.decode().split("\n")[:-1] == lines


def test_where_to_begin(shared, prd) -> None:
    first = publish(shared, *numbered(0, 1, 2), prd=prd)
    cursor = until(lambda: DaemonClient(shared.home).get("/api/events", {"prd_id": prd, "limit": 2})["cursor"])
    assert int(cursor.split(".")[1]) == first[1]

    def begun(*arguments: str) -> list[int]:
        return messages(read(shared, prd, "--json", *arguments).stdout.splitlines())

    assert begun("--since", cursor) == [2]
    assert begun("--since", "start") == begun("--since", "10m") == [0, 1, 2]
    assert begun("--since", "2026-01-26") == [0, 1, 2]
    assert begun("--since", "now") == []
    assert begun("-n", "2") == [1, 2]
    assert begun("-n", "0") == []
    assert begun("--since", "9999-01-01T00:00:00Z") == []
    refused = read(shared, prd, "--since", "yesterday")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "“yesterday” is none of" in refused.stderr
    foreign = read(shared, prd, "--json", "--since", "f" * 16 + cursor[16:])
    assert (foreign.returncode, foreign.stdout) == (0, "")
    assert foreign.stderr == "-- the log is a new one; going on at its end --\n"


def test_what_is_shown(shared, prd) -> None:
    events: list[dict[str, Any]] = [
        {"type": "story.started", "story_id": "S-1", "run_id": f"{prd}-r"},
        {"type": "test.run", "story_id": "S-1", "session_id": f"{prd}-s", "data": {"passed": 1, "failed": 0}},
        {"type": "story.started", "story_id": "S-2", "project": "other"},
    ]
    publish(shared, *events, prd=prd)
    publish(shared, *numbered(1), prd=f"{prd}-b")

    def types(*arguments: str) -> list[tuple[str, str]]:
        lines = shared.run("tail", "--no-follow", "--json", *arguments).stdout.splitlines()
        return [(json.loads(line)["type"], json.loads(line)["prd_id"]) for line in lines]

    assert types("--prd", prd, "--type", "story.*", "--type", "log.*") == [("story.started", prd)] * 2
    assert types("--prd", prd, "--story", "S-2") == [("story.started", prd)]
    assert types("--prd", prd, "--project", "other") == [("story.started", prd)]
    assert types("--prd", prd, "--prd", f"{prd}-b", "-n", "2") == [("story.started", prd), ("log.message", f"{prd}-b")]
    assert types("--run", f"{prd}-r") == [("story.started", prd), ("test.run", prd)]  # what joined it too
    assert types("--session", f"{prd}-s") == [("test.run", prd)]
    assert types("--prd", "nobody") == []
    assert types("--prd", f"other/{prd}") == [("story.started", prd)]
    misspelt = shared.run("tail", "--no-follow", "--prd", prd, "--type", "story")
    assert (misspelt.stdout, misspelt.returncode) == ("", 0)
    assert misspelt.stderr == "-- nothing stored so far matches; did you mean --type 'story.*'? --\n"
    for wrong, told in (
        (["--type", "tset.run"], "; did you mean --type test.run?"),
        (["--type", "test.run", "--prd", "nobody"], "; `claude-loop prds` lists the PRDs there are"),
        (["--type", "No Type"], ""),
    ):
        assert shared.run("tail", "--no-follow", *wrong).stderr == f"-- nothing stored so far matches{told} --\n"


def test_an_empty_log_ends_at_once(mine) -> None:
    for arguments in ((), ("--since", "start"), ("-n", "0"), ("--json",), ("--since", "1h")):
        done = mine.run("tail", "--no-follow", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "prd.completed", "data": {"success": True}}, 0),
        ({"type": "prd.completed", "data": {"success": False}}, 1),
    ],
)
def test_until_has_the_status_of_what_happened(shared, prd, event, status) -> None:
    with Tail(shared, "--prd", prd, "--until", "prd.completed", "--type", "log.*", "--json") as tail:
        publish(shared, *numbered(1), prd=prd)
        tail.lines(1)
        publish(shared, {"type": "story.started", "story_id": "S"}, event, *numbered(2), prd=prd)
        assert tail.ends() == status
        assert [json.loads(line)["type"] for line in tail.out.splitlines()] == ["log.message", "prd.completed"]


def test_until_without_following(shared, prd) -> None:
    publish(shared, *numbered(1), {"type": "test.run", "story_id": "S", "data": {"passed": 0, "failed": 1}}, prd=prd)
    assert read(shared, prd, "--until", "log.*").returncode == 0
    assert read(shared, prd, "--until", "test.run").returncode == 1
    never = read(shared, prd, "--until", "prd.completed", "--quiet")
    assert (never.returncode, never.stdout, never.stderr) == (1, "", "")
    assert "no prd.completed among the events stored" in read(shared, prd, "--until", "prd.completed").stderr


def test_quiet_and_output(shared, prd, tmp_path) -> None:
    publish(shared, *numbered(1, 2), prd=prd)
    silent = read(shared, prd, "--quiet")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    file = tmp_path / "events.jsonl"
    for _ in range(2):
        done = read(shared, prd, "--json", "--quiet", "--output", str(file))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert messages(file.read_text().splitlines()) == [1, 2, 1, 2]
    refused = read(shared, prd, "--output", str(tmp_path / "nowhere" / "file"))
    assert refused.returncode == 1
    assert "No such file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_ctrl_c_ends_it_quietly(shared, prd) -> None:
    publish(shared, *numbered(1), prd=prd)
    with Tail(shared, "--prd", prd) as tail:
        tail.lines(1)
        tail.process.send_signal(signal.SIGINT)
        assert tail.ends() == 130
        assert tail.err == ""


def test_it_ends_when_its_reader_does(shared, prd) -> None:
    """`head -1` has its line, and no further event comes that a write could fail on."""
    publish(shared, *numbered(1), prd=prd)
    program = f'set -o pipefail; "{sys.executable}" -m claude_loop tail --prd {prd} | head -1'
    piped = subprocess.run(
        ["bash", "-c", program],
        env=shared.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.endswith("· number 1\n")


def on_a_terminal(daemon: Daemon, prd: str, **environ: str) -> str:
    """What a terminal receives."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "claude_loop", "tail", "--no-follow", "--prd", prd]
    try:
        process = subprocess.Popen(
            line, env=daemon.environ | environ, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        received, deadline = b"", time.monotonic() + 20
        while time.monotonic() < deadline and select.select([ours], [], [], 20)[0]:
            try:
                received += os.read(ours, 65_536)
            except OSError:  # EIO: the other side is closed
                break
        assert process.wait(30) == 0
        return received.decode()
    finally:
        os.close(ours)


def test_colour_on_a_terminal_only(shared, prd) -> None:
    publish(shared, {"type": "error.occurred", "data": {"error": "boom"}}, prd=prd)
    assert "\x1b[31m! error: boom\x1b[0m" in on_a_terminal(shared, prd, TERM="xterm")
    for environ in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_a_terminal(shared, prd, **environ)
    assert "\x1b" not in read(shared, prd).stdout


def test_no_event_controls_the_terminal(shared, prd) -> None:
    nasty = "a\x1b[2J\x07\x9b1mb\u202ec\r\nd\u2028e"
    events: list[dict[str, Any]] = [
        {"type": "prd.started", "data": {"title": nasty}},
        {"type": "log.message", "data": {"level": nasty, "message": nasty}},
        {"type": "error.occurred", "data": {"error": nasty}},
        {"type": "test.run", "story_id": "S", "data": {"passed": 1, "failed": 1, "failures": [{"name": nasty}]}},
        {"type": "commit.created", "story_id": "S", "data": {"commit_hash": "abc123d", "subject": nasty}},
        {"type": "agent.waiting", "data": {"for": "human", "reason": nasty, "command": nasty}},
        {"type": "x.y", "story_id": "S\u202e\u2066", "data": {nasty: nasty, "n": {nasty: [nasty]}}},
    ]
    client = DaemonClient(shared.home)
    for event in events:
        client.post("/api/events", event | {"prd_id": prd, "project": "p\u202e"})
    shown = on_a_terminal(shared, prd, NO_COLOR="1")
    assert shown.count("\r\n") == len(events)
    listed = shared.run("prds").stdout + shared.run("show", prd).stdout
    for text in (shown.replace("\r\n", ""), listed.replace("\n", "")):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", text)

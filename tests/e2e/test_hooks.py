"""Agents' hooks on a real daemon that is killed meanwhile: each event arrives once, in order, and without secrets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from tests.e2e.daemon import Daemon
from tests.support import BIN, PATIENCE, ROOT, until

pytestmark = pytest.mark.requires("linux")

# Composed here, of the looks of the real ones.
SECRETS = [
    "sk-ant-api03-" + "aB3dE6gH" * 11,
    "sk-proj-" + "a1B2c3D4" * 6,
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2,
    "AKIA" + "ABCDEFGHIJ234567",
    "xoxb-" + "123456789012-abcdefGHIJKL",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "correct-horse-battery",
]


def call(daemon: Daemon, payload: dict[str, Any], agent: str = "claude") -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [str(BIN / "claude-loop-hook"), agent],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=daemon.environ | {"CLAUDE_LOOP_PRD": "SHOP-7", "CLAUDE_LOOP_STORY": "US-001"},
        ) as process,
    ):
        theirs.close()
        ours.sendall(json.dumps(payload).encode())
        ours.shutdown(socket.SHUT_WR)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, b"", b"")


def turn(number: int) -> list[dict[str, Any]]:
    """What an agent says in one turn, with a secret wherever one can be."""
    secret = SECRETS[number % len(SECRETS)]
    common = {"session_id": f"session-{number}", "cwd": "/home/u/shop", "number": number}
    bash = {"tool_name": "Bash", "tool_use_id": f"toolu_{number}"}
    command = {"command": f"PASSWORD={secret} git commit -m 'US-001: step {number}'"}
    output = f"password: {secret}\n[main {number:07x}] US-001: step {number}\n 1 file changed, 1 insertion(+)\n"
    return [
        {
            **common,
            "hook_event_name": "UserPromptSubmit",
            "prompt": f"My password is set: password={secret} and go on.",
        },
        {**common, **bash, "hook_event_name": "PreToolUse", "tool_input": command},
        {
            **common,
            **bash,
            "hook_event_name": "PostToolUse",
            "tool_input": command,
            "tool_response": {"stdout": output},
        },
        {**common, "hook_event_name": "Stop", "last_assistant_message": f"token: {secret}1 password: {secret}"},
    ]


TURN = [
    "prompt.submitted",
    "tool.started",
    "tool.completed",
    "commit.created",
    "agent.message",
    "agent.idle",
]


async def stored(home: Path) -> list[Event]:
    log = SqliteEventLog(home / "events.db")
    await log.open(nobody)
    events = (await log.read(0, 10_000)).events
    await log.close()
    return [event for event in events if event.source == "claude"]


async def test_hooks_arrive_once_in_order_and_without_secrets_whatever_dies(home: Path) -> None:
    daemon = Daemon(home)
    turns = 24
    call(daemon, turn(0)[0])  # no daemon has ever run here
    daemon.start()
    for number in range(turns):
        for index, payload in enumerate(turn(number)):
            if number or index:
                call(daemon, payload)
            if index == number % 4 and number % 6 == 1:
                daemon.kill()
                if number % 12 == 1:
                    daemon.start()
        if daemon.process is not None and daemon.process.poll() is not None:
            daemon.start()
    until(lambda: not os.listdir(home / "spool") and not os.listdir(home / "leaving"), what="the spool was not drained")
    assert daemon.stop() == 0
    events = await stored(home)
    assert [event.type for event in events] == TURN * turns
    assert [event.data["raw"]["number"] for event in events if "raw" in event.data] == [
        number for number in range(turns) for _ in range(4)
    ]
    assert max(Counter(event.id for event in events).values()) == 1
    assert {(event.project, event.prd_id, event.story_id) for event in events} == {("proof", "SHOP-7", "US-001")}
    commits = [event.data for event in events if event.type == "commit.created"]
    assert [commit["commit_hash"] for commit in commits] == [f"{number:07x}" for number in range(turns)]
    assert commits[1]["mentions"] == ["US-001"]
    for file in [*home.glob("*.db*"), *home.glob("rejected/*"), daemon.log]:
        content = file.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content], file


async def test_what_is_odd_or_large_arrives_too(home: Path) -> None:
    daemon = Daemon(home)
    daemon.start()
    fixtures = (ROOT / "tests" / "fixtures" / "agents" / "claude_hooks.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in fixtures]
    for row in rows:
        call(daemon, row["payload"])
    call(daemon, {"hook_event_name": "PostToolUse", "session_id": "s", "tool_name": "Write", "t": "word " * 190_000})
    call(daemon, {"hook_event_name": "PostToolUse", "session_id": "s", "tool_name": "Write", "t": "word " * 2_000_000})
    until(lambda: not os.listdir(home / "spool") and not os.listdir(home / "leaving"), what="the spool was not drained")
    assert daemon.stop() == 0
    events = await stored(home)
    expected = [type_ for row in rows for type_ in row["events"]]
    assert [event.type for event in events] == [*expected, "tool.completed", "tool.completed"]
    assert [(event.session_id, event.data["tool"]) for event in events[-2:]] == [("s", "Write")] * 2
    assert not (home / "rejected" / "lines.jsonl").exists()

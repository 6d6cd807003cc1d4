"""Who only runs `hooks install`, without a script, a PRD or `claude-loop run`, is woken and told afterwards like anybody else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.notify_receiver import configure
from tests.support import BIN, PATIENCE, until

pytestmark = pytest.mark.requires("linux")

CHANNEL = """
[[notify]]
name = "desk"
command = {command}
grace = 0
"""
# Each message is one line of the file.
KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
REASON = "permission Bash rm -rf build"


@pytest.fixture
def shop(tmp_path):
    where = tmp_path / "shop"
    (where / ".git").mkdir(parents=True)
    return where


@pytest.fixture
def told(tmp_path):
    return tmp_path / "told.jsonl"


@pytest.fixture
def daemon(home, told):
    command = json.dumps([sys.executable, "-S", "-c", KEEP, str(told)])
    configure(home, CHANNEL.format(command=command))
    with Daemon(home, XDG_CONFIG_HOME=str(home.parent / "config")) as one:
        yield one


def hook(daemon: Daemon, where: Path, name: str, **payload: object) -> None:
    said = {"hook_event_name": name, "session_id": "5b1f", "cwd": str(where), **payload}
    done = subprocess.run(
        [str(BIN / "claude-loop-hook"), "claude"],
        input=json.dumps(said).encode(),
        env={name: value for name, value in daemon.environ.items() if name != "CLAUDE_LOOP_PROJECT"},
        cwd=where,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def messages(told: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def test_an_agent_that_asks_for_a_permission_wakes_its_person_once(daemon, shop, told):
    bash = {"tool_name": "Bash", "tool_input": {"command": "rm -rf build"}, "tool_use_id": "t1"}
    hook(daemon, shop, "SessionStart", source="startup", model="sonnet")
    hook(daemon, shop, "PreToolUse", **bash)
    hook(daemon, shop, "PermissionRequest", tool_name="Bash", tool_input=bash["tool_input"])
    until(lambda: messages(told))
    prompt = "Claude needs your permission to use Bash"
    hook(daemon, shop, "Notification", notification_type="permission_prompt", message=prompt)
    (message,) = messages(told)
    assert message["text"] == f"claude in shop waits for you: {REASON}"
    assert message["url"] == f"{daemon.url}/session/5b1f?project=shop"
    until(lambda: "notified at" in daemon.run("prds").stdout)
    said = daemon.run("report").stdout.splitlines()
    assert said[2] == "Needs you now:"
    assert said[3].startswith("  claude in shop: waits for you since ")
    assert said[3].endswith(f": {REASON}")
    hook(daemon, shop, "PostToolUse", **bash, tool_response={"stdout": ""})
    test = {"tool_name": "Bash", "tool_input": {"command": "pytest -q"}, "tool_use_id": "t2"}
    hook(daemon, shop, "PostToolUse", **test, tool_response={"stdout": "3 passed in 0.02s", "stderr": ""})
    _, resolved = until(lambda: (said := messages(told)) and len(said) == 2 and said)
    assert resolved["text"].startswith(f"Resolved: claude in shop no longer waits: {REASON}")
    assert resolved["cause_id"] == message["cause_id"]
    sent = until(lambda: alerts(daemon, 2))
    assert [(event["type"], event["project"], event["session_id"]) for event in sent] == [
        ("alert.sent", "shop", "5b1f"),
        ("alert.resolved", "shop", "5b1f"),
    ]
    said = until(lambda: "1 test run, 1 passed" in (text := daemon.run("report").stdout) and text)
    assert "Nothing needs you." in said
    assert "◇ shop, without a PRD" in said
    assert f" for you: {REASON}" in said


def alerts(daemon: Daemon, count: int) -> list[dict[str, str]] | None:
    listed = daemon.run("tail", "--no-follow", "--json", "--type", "alert.*", "-n", "100").stdout.splitlines()
    return [json.loads(line) for line in listed] if len(listed) == count else None

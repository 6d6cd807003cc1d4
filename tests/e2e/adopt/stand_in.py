"""A stand-in for Claude Code under `claude --print`: the documented hooks from the settings, real tests, real commits.

It is put on the PATH as `claude` and does one story of `prd.json` in each call. ``STAND_IN`` says what goes wrong in the
first call: nothing, `failing`, `permission`, `rate_limit`, `retry`. Files named `hold-…` in ``STAND_IN_FOLDER`` appear
where it waits for the test, until the test removes them. It knows nothing of claude-loop.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

HERE = Path.cwd()
FOLDER = Path(os.environ["STAND_IN_FOLDER"])
# Composed here, of the looks of a real one.
SECRET = "sk-ant-api03-" + "aB3dE6gH" * 11
ONE_BY_ONE = 0.08
# What a model takes before its first call, and much less than it really takes.
THINKING = 1.2
MODULE = "def {name}(amounts):\n    return sum(amounts){bug}\n"
TEST = """import unittest

from {name} import {name}


class {title}(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual({name}([]), 0)

    def test_two(self):
        self.assertEqual({name}([1, 2]), 3)
"""


class Agent:
    """One session. ``agent`` says whose hooks it calls; Codex has no hook of its own for a call that failed."""

    def __init__(self) -> None:
        self.session = str(uuid.uuid4())
        self.prompt = str(uuid.uuid4())
        folder = re.sub(r"[^A-Za-z0-9]", "-", str(HERE))
        self.transcript = f"{Path.home()}/.claude/projects/{folder}/{self.session}.jsonl"
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        for settings in (Path.home() / ".claude/settings.json", HERE / ".claude/settings.json"):
            if settings.exists():
                for event, groups in json.loads(settings.read_text()).get("hooks", {}).items():
                    self.hooks.setdefault(event, []).extend(groups)

    def say(self, event: str, subject: str = "", **fields: Any) -> None:
        """Call the hooks of ``event``, as Claude Code does; what they answer must be nothing."""
        payload = {
            "session_id": self.session,
            "transcript_path": self.transcript,
            "cwd": str(HERE),
            "prompt_id": self.prompt,
            "permission_mode": "bypassPermissions",
            "hook_event_name": event,
            **fields,
        }
        for group in self.hooks.get(event, []):
            matcher = group.get("matcher") or "*"
            if matcher != "*" and subject not in re.split(r"[|,]", matcher):
                continue
            for handler in group["hooks"]:
                done = subprocess.run(
                    ["/bin/sh", "-c", handler["command"]],
                    input=json.dumps(payload, separators=(",", ":")).encode(),
                    capture_output=True,
                    env=os.environ | {"CLAUDE_PROJECT_DIR": str(HERE)},
                    timeout=handler.get("timeout", 600),
                    check=False,
                )
                if done.returncode or done.stdout or done.stderr:
                    raise SystemExit(f"the hook has an opinion: {done}")

    def begin(self) -> dict[str, Any]:
        return {"tool_use_id": f"toolu_01{uuid.uuid4().hex[:22]}"}

    def use(self, tool: str, given: dict[str, Any], response: dict[str, Any]) -> None:
        call = {"tool_name": tool, "tool_input": given, **self.begin()}
        self.say("PreToolUse", tool, **call)
        self.say("PostToolUse", tool, **call, tool_response=response, duration_ms=3)
        time.sleep(ONE_BY_ONE)

    def write(self, name: str, content: str) -> None:
        path = str(HERE / name)
        (HERE / name).write_text(content)
        response = {"type": "create", "filePath": path, "content": content, "structuredPatch": []}
        self.use("Write", {"file_path": path, "content": content}, response)

    def bash(self, command: str, *, asks: bool = False) -> str:
        """Run it, and what it printed."""
        given = {"command": command, "description": command.split(maxsplit=1)[0]}
        call = {"tool_name": "Bash", "tool_input": given, **self.begin()}
        self.say("PreToolUse", "Bash", **call)
        if asks:
            self.say("PermissionRequest", "Bash", tool_name="Bash", tool_input=given, permission_suggestions=[])
            hold("permission")
        begun = time.monotonic()
        done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False)
        took = {"duration_ms": round((time.monotonic() - begun) * 1000)}
        if done.returncode:
            error = f"Exit code {done.returncode}\n{done.stdout}{done.stderr}"
            self.say("PostToolUseFailure", "Bash", **call, error=error, is_interrupt=False, **took)
        else:
            response = {"stdout": done.stdout, "stderr": done.stderr, "interrupted": False, "isImage": False}
            if commit := re.match(r"\[(\S+)(?: \(root-commit\))? ([0-9a-f]{7,})\]", done.stdout):
                sha = {"sha": commit[2], "kind": "committed", "branch": commit[1]}
                response["gitOperation"] = {"commit": sha}
            self.say("PostToolUse", "Bash", **call, tool_response=response, **took)
        time.sleep(ONE_BY_ONE)
        return done.stdout + done.stderr

    def plan(self, done: int) -> None:
        names = ("Write the tests", "Make them pass", "Commit")
        states = ["completed"] * done + ["in_progress"] + ["pending"] * (2 - done)
        todos = [
            {"content": name, "status": state, "activeForm": name} for name, state in zip(names, states, strict=True)
        ]
        self.use("TodoWrite", {"todos": todos}, {"oldTodos": [], "newTodos": todos})

    def end(self, words: str, status: int = 0) -> None:
        """The end of `claude --print`: its last words alone are printed."""
        self.say("Stop", stop_hook_active=False, last_assistant_message=words, background_tasks=[], session_crons=[])
        self.say("SessionEnd", reason="other")
        print(words, flush=True)
        raise SystemExit(status)


def hold(name: str) -> None:
    """Wait for the test, which sees the file and takes it away."""
    file = FOLDER / f"hold-{name}"
    file.touch()
    while file.exists():
        time.sleep(0.01)


def next_story(prd: dict[str, Any]) -> dict[str, Any]:
    return min((story for story in prd["userStories"] if not story["passes"]), key=lambda story: story["priority"])


def pass_story(agent: Agent, story: dict[str, Any]) -> int:
    """Mark it in the file, in place; how many are left."""
    file = HERE / "prd.json"
    prd = json.loads(file.read_text())
    for each in prd["userStories"]:
        each["passes"] = each["passes"] or each["id"] == story["id"]
    file.write_text(json.dumps(prd, indent=2) + "\n")
    edit = {"file_path": str(file), "old_string": '"passes": false', "new_string": '"passes": true'}
    agent.use("Edit", edit, {"filePath": str(file), "structuredPatch": []})
    return sum(not each["passes"] for each in prd["userStories"])


def limited(agent: Agent) -> None:
    """The usage limit is reached: the turn fails, the message is printed, the process ends with an error."""
    words = f"Claude AI usage limit reached|{os.environ['STAND_IN_RESET']}"
    agent.say("StopFailure", error="rate_limit", error_details=words, last_assistant_message=words)
    agent.say("SessionEnd", reason="other")
    print(words, flush=True)
    hold("rate_limit")
    raise SystemExit(1)


def overloaded(agent: Agent) -> None:
    details = "529 overloaded_error. Retrying in 4 seconds (attempt 2 of 10)"
    agent.say("StopFailure", error="overloaded", error_details=details)
    hold("retry")


def work(agent: Agent, trouble: str) -> None:
    time.sleep(THINKING)
    file = HERE / "prd.json"
    agent.use("Read", {"file_path": str(file)}, {"type": "text", "file": {"filePath": str(file)}})
    story = next_story(json.loads(file.read_text()))
    name = story["id"].lower().replace("-", "_")
    if trouble == "rate_limit":
        limited(agent)
    if trouble == "retry":
        overloaded(agent)
    agent.plan(0)
    agent.write(f"{name}.py", MODULE.format(name=name, bug=" + 1" if trouble == "failing" else ""))
    agent.write(f"test_{name}.py", TEST.format(name=name, title=f"Tests{name.title().replace('_', '')}"))
    if trouble == "permission":
        agent.bash("rm -rf build", asks=True)
    agent.plan(1)
    if os.environ.get("STAND_IN_HOLDS"):
        hold("ready")
    tests = agent.bash(f"export API_KEY={SECRET}; python3 -m unittest 2>&1")
    if os.environ.get("STAND_IN_HOLD_AT") == story["id"]:
        hold("tested")
    summary = tests[tests.index("Ran ") :].strip()
    if trouble == "failing":
        agent.end(f"The tests of {story['id']} fail, I will go on in the next iteration.\n\n```\n{summary}\n```")
    agent.plan(2)
    agent.bash(f"git add -A && git commit -m 'feat: [{story['id']}] - {story['title']}'")
    left = pass_story(agent, story)
    words = f"Implemented {story['id']} with key {SECRET}.\n\n```\n{summary}\n```\n"
    agent.end(f"{words}\n<promise>COMPLETE</promise>" if left == 0 else f"{words}\n{left} stories are left.")


def main() -> None:
    prompt = sys.stdin.read()
    calls = FOLDER / "calls"
    first = not calls.exists()
    calls.touch()
    agent = Agent()
    agent.say("SessionStart", "startup", source="startup", model="claude-sonnet-5")
    agent.say("UserPromptSubmit", prompt=f"{prompt}\nThe key is {SECRET}.", source="user")
    work(agent, os.environ.get("STAND_IN", "") if first else "")


main()

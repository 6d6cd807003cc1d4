"""The two agents that the stand-in can be: how each calls its hooks, and what its payloads look like."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path.cwd()
FOLDER = Path(os.environ["STAND_IN_FOLDER"])
ONE_BY_ONE = 0.08


def hold(name: str) -> None:
    """Wait for the test, which sees the file and takes it away."""
    file = FOLDER / f"hold-{name}"
    file.touch()
    while file.exists():
        time.sleep(0.01)


class Agent:
    """One session, with the hooks of its settings."""

    def __init__(self, settings: Iterable[Path]) -> None:
        self.session = str(uuid.uuid4())
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        for file in settings:
            if file.exists():
                for event, groups in json.loads(file.read_text()).get("hooks", {}).items():
                    self.hooks.setdefault(event, []).extend(groups)

    def common(self, event: str) -> dict[str, Any]:
        """What every payload of that hook holds."""
        raise NotImplementedError

    def say(self, event: str, subject: str = "", **fields: Any) -> None:
        """Call the hooks of ``event``, as agents do; what they answer must be nothing."""
        payload = {**self.common(event), **fields}
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

    def call_id(self) -> str:
        return f"toolu_01{uuid.uuid4().hex[:22]}"

    def use(self, tool: str, given: dict[str, Any], response: Any) -> None:
        call = {"tool_name": tool, "tool_input": given, "tool_use_id": self.call_id()}
        self.say("PreToolUse", tool, **call)
        self.say("PostToolUse", tool, **call, tool_response=response, **self.took(0.003))
        time.sleep(ONE_BY_ONE)

    def took(self, seconds: float) -> dict[str, int]:
        """How long a call took, where the agent says so."""
        return {"duration_ms": round(seconds * 1000)}

    def bash(self, command: str, *, asks: bool = False) -> str:
        """Run it, and what it printed."""
        given = self.given(command)
        call = {"tool_name": "Bash", "tool_input": given, "tool_use_id": self.call_id()}
        self.say("PreToolUse", "Bash", **call)
        if asks:
            self.ask(given)
            hold("permission")
        begun = time.monotonic()
        done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False)
        self.answer(call, done, self.took(time.monotonic() - begun))
        time.sleep(ONE_BY_ONE)
        return done.stdout + done.stderr

    def given(self, command: str) -> dict[str, Any]:
        return {"command": command}

    def ask(self, given: dict[str, Any]) -> None:
        self.say("PermissionRequest", "Bash", tool_name="Bash", tool_input=given)

    def answer(self, call: dict[str, Any], done: subprocess.CompletedProcess[str], took: dict[str, int]) -> None:
        """Tell of a command that has ended."""
        raise NotImplementedError

    def end(self, words: str, status: int = 0) -> None:
        """The end of a call without a terminal: its last words alone are printed."""
        self.say("Stop", **self.last_words(words))
        self.say("SessionEnd", reason="other")
        print(words, flush=True)
        raise SystemExit(status)

    def last_words(self, words: str) -> dict[str, Any]:
        return {"stop_hook_active": False, "last_assistant_message": words}


class Claude(Agent):
    """Claude Code."""

    def __init__(self, _: list[str]) -> None:
        super().__init__([Path.home() / ".claude/settings.json", HERE / ".claude/settings.json"])
        self.prompt = str(uuid.uuid4())
        folder = re.sub(r"[^A-Za-z0-9]", "-", str(HERE))
        self.transcript = f"{Path.home()}/.claude/projects/{folder}/{self.session}.jsonl"

    def common(self, event: str) -> dict[str, Any]:
        return {
            "session_id": self.session,
            "transcript_path": self.transcript,
            "cwd": str(HERE),
            "prompt_id": self.prompt,
            "permission_mode": "bypassPermissions",
            "hook_event_name": event,
        }

    def start(self, prompt: str) -> None:
        self.say("SessionStart", "startup", source="startup", model="claude-sonnet-5")
        self.say("UserPromptSubmit", prompt=prompt, source="user")

    def read(self, name: str) -> None:
        path = str(HERE / name)
        self.use("Read", {"file_path": path}, {"type": "text", "file": {"filePath": path}})

    def write(self, name: str, content: str) -> None:
        path = str(HERE / name)
        (HERE / name).write_text(content)
        response = {"type": "create", "filePath": path, "content": content, "structuredPatch": []}
        self.use("Write", {"file_path": path, "content": content}, response)

    def edit(self, name: str, old: str, new: str) -> None:
        path = str(HERE / name)
        given = {"file_path": path, "old_string": old, "new_string": new}
        self.use("Edit", given, {"filePath": path, "structuredPatch": []})

    def plan(self, steps: list[tuple[str, str]]) -> None:
        todos = [{"content": name, "status": state, "activeForm": name} for name, state in steps]
        self.use("TodoWrite", {"todos": todos}, {"oldTodos": [], "newTodos": todos})

    def given(self, command: str) -> dict[str, Any]:
        return {"command": command, "description": command.split(maxsplit=1)[0]}

    def ask(self, given: dict[str, Any]) -> None:
        self.say("PermissionRequest", "Bash", tool_name="Bash", tool_input=given, permission_suggestions=[])

    def answer(self, call: dict[str, Any], done: subprocess.CompletedProcess[str], took: dict[str, int]) -> None:
        if done.returncode:
            error = f"Exit code {done.returncode}\n{done.stdout}{done.stderr}"
            self.say("PostToolUseFailure", "Bash", **call, error=error, is_interrupt=False, **took)
            return
        response = {"stdout": done.stdout, "stderr": done.stderr, "interrupted": False, "isImage": False}
        if commit := re.match(r"\[(\S+)(?: \(root-commit\))? ([0-9a-f]{7,})\]", done.stdout):
            response["gitOperation"] = {"commit": {"sha": commit[2], "kind": "committed", "branch": commit[1]}}
        self.say("PostToolUse", "Bash", **call, tool_response=response, **took)

    def last_words(self, words: str) -> dict[str, Any]:
        return {**super().last_words(words), "background_tasks": [], "session_crons": []}


class Codex(Agent):
    """Codex, which has no hook of its own for a call that failed, and runs no hook that nobody has trusted."""

    def __init__(self, arguments: list[str]) -> None:
        trusted = "--dangerously-bypass-hook-trust" in arguments
        super().__init__([Path.home() / ".codex/hooks.json", HERE / ".codex/hooks.json"] if trusted else [])
        self.calls = 0

    def common(self, event: str) -> dict[str, Any]:
        session = {"session_id": self.session, "transcript_path": None, "cwd": str(HERE), "hook_event_name": event}
        if event == "SessionEnd":
            return session
        model = {"model": "gpt-5.3-codex", "permission_mode": "bypassPermissions"}
        return session | model | ({} if event == "SessionStart" else {"turn_id": "1"})

    def start(self, prompt: str) -> None:
        self.say("SessionStart", "startup", source="startup")
        self.say("UserPromptSubmit", prompt=prompt)

    def call_id(self) -> str:
        self.calls += 1
        return f"call_{self.session[:8]}_{self.calls}"

    def took(self, seconds: float) -> dict[str, int]:
        del seconds
        return {}

    def read(self, name: str) -> None:
        self.bash(f"cat {name}")

    def write(self, name: str, content: str) -> None:
        (HERE / name).write_text(content)
        lines = "".join(f"+{line}\n" for line in content.splitlines())
        self._patch(f"*** Add File: {name}\n{lines}")

    def edit(self, name: str, old: str, new: str) -> None:
        self._patch(f"*** Update File: {name}\n@@\n-{old}\n+{new}\n")

    def _patch(self, change: str) -> None:
        self.use("apply_patch", {"command": f"*** Begin Patch\n{change}*** End Patch\n"}, "Done!")

    def plan(self, steps: list[tuple[str, str]]) -> None:
        plan = [{"step": name, "status": state} for name, state in steps]
        self.use("update_plan", {"plan": plan}, "Plan updated")

    def answer(self, call: dict[str, Any], done: subprocess.CompletedProcess[str], took: dict[str, int]) -> None:
        self.say("PostToolUse", "Bash", **call, tool_response=done.stdout + done.stderr, **took)

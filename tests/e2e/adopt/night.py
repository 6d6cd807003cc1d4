"""A night under `claude-loop run`: a repository with a plan, a loop of ralph's shape, and the stand-in as `claude`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon
from tests.support import PATIENCE, until

HERE = Path(__file__).parent
SECRET = "sk-ant-api03-" + "aB3dE6gH" * 11
STORIES = {"US-001": "Cart totals", "US-002": "Shipping costs", "US-003": "Receipts"}


def plan_of(stories: dict[str, str]) -> dict[str, Any]:
    """A `prd.json` as ralph has it."""
    return {
        "project": "Checkout",
        "branchName": "ralph/checkout",
        "description": "Checkout that adds up",
        "userStories": [
            {
                "id": id_,
                "title": title,
                "description": f"As a customer I see the {title.lower()}.",
                "acceptanceCriteria": ["Tests pass"],
                "priority": priority,
                "passes": False,
                "notes": "",
            }
            for priority, (id_, title) in enumerate(stories.items(), 1)
        ],
    }


class Night:
    """A daemon, and beside it everything that the loop needs. ``count`` is how many stories there are, ``environ`` what
    the loop sees besides."""

    def __init__(self, home: Path, trouble: str = "", *, count: int = 3, agent: str = "claude", **environ: str) -> None:
        base = home.parent
        self.agent = agent
        self.stories = dict(list(STORIES.items())[:count])
        self.daemon = Daemon(home)
        del self.daemon.environ["CLAUDE_LOOP_PROJECT"]
        self.repository, self.folder, self.shown = base / "shop", base / "stand-in", base / "shown"
        programs, person = base / "programs", base / "person"
        for folder in (self.repository, self.folder, programs, person):
            folder.mkdir()
        (programs / agent).write_text(f'#!/bin/bash\nexec {sys.executable} {HERE / "stand_in.py"} {agent} "$@"\n')
        (programs / agent).chmod(0o755)
        self.environ = self.daemon.environ | {
            "HOME": str(person),
            "XDG_CONFIG_HOME": str(base / "config"),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "CLAUDE_LOOP_AUTOSTART": "0",
            "STAND_IN": trouble,
            "STAND_IN_FOLDER": str(self.folder),
            **environ,
        }
        self.daemon.environ = self.environ
        self.loop: subprocess.Popen[bytes] | None = None
        self._prepare()

    def _prepare(self) -> None:
        shutil.copy(HERE / "ralph.sh", self.repository)
        (self.repository / "CLAUDE.md").write_text("Do the next story of prd.json.\n")
        (self.repository / "prd.json").write_text(json.dumps(plan_of(self.stories), indent=2))
        (self.repository / ".gitignore").write_text("__pycache__/\nprd.json\nprogress.txt\n")
        self.git("init", "-q", "-b", "ralph/checkout")
        self.git("config", "user.email", "loop@example.org")
        self.git("config", "user.name", "Loop")
        self.git("add", "-A")
        self.git("commit", "-qm", "Begin")
        done = self.daemon.run("hooks", "install", "--agent", self.agent)
        assert done.returncode == 0, done.stderr

    def git(self, *arguments: str) -> str:
        line = ["git", *arguments]
        return subprocess.run(
            line, cwd=self.repository, env=self.environ, check=True, capture_output=True, text=True
        ).stdout

    def begin(self, *arguments: str) -> None:
        """Start the loop, in a process group of its own."""
        line = [sys.executable, "-m", "claude_loop", "run", "--", "./ralph.sh", "10", *self._tool(), *arguments]
        with self.shown.open("wb") as shown:
            self.loop = subprocess.Popen(
                line,
                cwd=self.repository,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=shown,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _tool(self) -> list[str]:
        return [] if self.agent == "claude" else ["--tool", self.agent]

    def await_end(self) -> int:
        assert self.loop is not None
        return self.loop.wait(60)

    def end(self) -> None:
        if self.loop is not None and self.loop.poll() is None:
            os.killpg(self.loop.pid, signal.SIGKILL)
            self.loop.wait()
        if self.daemon.process is not None:
            self.daemon.stop()

    # -- what the stand-in waits for ---------------------------------------------------------------------------------

    def await_hold(self, name: str) -> None:
        until((self.folder / f"hold-{name}").exists, what=f"the stand-in comes to {name}")

    def release(self, name: str) -> None:
        (self.folder / f"hold-{name}").unlink()

    # -- what is seen ------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.daemon.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def card(self) -> dict[str, Any]:
        return next(iter(self.get("/api/prds")["prds"]), {})

    def await_state(self, state: str, seconds: float = PATIENCE) -> dict[str, Any]:
        until(lambda: self.card().get("state") == state, seconds, f"{state}, not {self.card()}")
        return self.card()

    def detail(self) -> dict[str, Any]:
        return self.get("/api/prds/checkout")

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Those of these types, or all; oldest first."""
        events = self.get("/api/events?limit=1000")["events"]
        chosen = [e for e in events if not types or any(fnmatchcase(e["type"], type_) for type_ in types)]
        return sorted(chosen, key=lambda event: event["seq"])

    def tail(self) -> list[dict[str, Any]]:
        """What `tail` tells."""
        said = self.daemon.run("tail", "--no-follow", "--json", "-n", "1000", "--type", "*")
        return [json.loads(line) for line in said.stdout.splitlines()]

    def told(self) -> Counter[tuple[str, str | None]]:
        """How often each kind of fact was told of each story."""
        facts = self.events("story.*", "commit.created", "test.run", "run.*", "iteration.*", "session.*")
        return Counter((event["type"], event.get("story_id")) for event in facts)

    def output(self, iteration: int) -> str:
        (run_id,) = {event["run_id"] for event in self.events("run.started")}
        page = self.get(f"/api/runs/{run_id}/output?iteration={iteration}&limit=500")
        return "".join(chunk["text"] for chunk in page["chunks"])

    def leaks(self) -> list[str]:
        """Files of the state directory that hold the secret, and outputs of commands."""
        files = [path for path in self.daemon.home.root.rglob("*") if path.is_file()]
        found = [str(path) for path in [*files, self.daemon.log] if SECRET.encode() in _content(path)]
        told = json.dumps([self.events(), self.detail(), self.get("/api/prds"), self.get("/api/report")])
        return [*found, "HTTP"] if SECRET in told else found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a spool file that has been read leaves while we look
        return b""

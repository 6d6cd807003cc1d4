"""A log with the read model, and wrapped runs in it as the wrapper leaves them on disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from claude_loop.adopt.wrapped_runs import WrappedRuns
from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.intake.accept import Acceptor
from claude_loop.progress.projection import ProgressProjection
from claude_loop.settings import LimitSettings, RedactSettings

CLOCK = SystemClock()
TIDY = Acceptor(LimitSettings(), RedactSettings(), CLOCK).tidy


class World:
    def __init__(self, folder: Path) -> None:
        self.runs = folder / "home/runs"
        self.runs.mkdir(parents=True)
        self.cwd = folder / "work"
        self.cwd.mkdir()
        self.hub = Hub(MemoryEventLog(ProgressProjection(), CLOCK), EventBus())

    def wrapped(self) -> WrappedRuns:
        return WrappedRuns(self.hub, self.runs, CLOCK)

    async def begin(self, run_id: str = "R1", **note: Any) -> None:
        """A run begins: its directory, and its first event."""
        document = {
            "run_id": run_id, "project": "shop", "prd_id": "PRD-1", "script": str(self.cwd / "ralph.sh"), "cwd": str(self.cwd),
            "prd_file": None, "started_at": CLOCK.now_us(), **note,
        }  # fmt: skip
        (self.runs / run_id).mkdir()
        (self.runs / run_id / "run.json").write_text(json.dumps(document))
        await self.publish("run.started", run_id=run_id, prd_id=document["prd_id"])

    async def end(self, run_id: str = "R1", ended_at: int | None = None) -> None:
        """``ended_at`` in microseconds since the epoch; None is now."""
        note = {"exit_code": 0, "ended_at": CLOCK.now_us() if ended_at is None else ended_at}
        (self.runs / run_id / "end.json").write_text(json.dumps(note))
        await self.publish("run.completed", {"success": True}, run_id=run_id)

    async def publish(self, type_: str, data: dict[str, Any] | None = None, **ids: Any) -> None:
        fields = {"project": "shop", "prd_id": "PRD-1", "source": "bash", **ids}
        at = fields.pop("at", None) or CLOCK.now_us() // 1000
        await self.hub.publish([Event(type_, data or {}, id=new_event_id(CLOCK), at=at, **fields)])

    async def told(self, source: str, *types: str) -> list[Event]:
        events = (await self.hub.log.read(0, 1000)).events
        return [event for event in events if event.source == source and (not types or event.type in types)]


class Git:
    """A repository of its own, untouched by what the machine's settings say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str, **environment: str) -> str:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=self.folder, capture_output=True, text=True, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "GIT_EDITOR": "true", **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def init(self) -> None:
        self("init", "-q", "-b", "main")

    def commit(self, subject: str, name: str = "cart.py", text: str = "x\n", *, at: float | None = None) -> str:
        """``at``: when the commit says it was made, in seconds since the epoch."""
        with (self.folder / name).open("a") as file:
            file.write(text)
        self("add", "-A")
        self("commit", "-q", "-m", subject, **({} if at is None else {"GIT_COMMITTER_DATE": f"@{at:.0f} +0000"}))
        return self("rev-parse", "HEAD")

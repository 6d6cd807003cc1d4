"""Watches the processes that own runs, so that one that dies without a word is noticed.

The shell that emits `prd.started` says who it is: pid, start time and boot. A process is watched only if it still lives
some seconds after it opened the run (a one-shot emitter does not), and what is seen becomes events, so that the read
model stays a function of the log alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.progress.keys import RUNS, run_key
from claude_loop.subscription import Batch

log = structlog.get_logger(__name__)

# A process that emits once and ends is no loop; one that lives this long after opening its run is.
PROBATION_MS = 5_000
POLL_SECONDS = 1.0
# What the process emitted last may still be on its way through the spool when it is found gone.
MISSES = 3

OPENERS = Filter(types=("prd.started", "run.started"))


@dataclass(frozen=True, slots=True)
class Process:
    """A process as ``/proc`` tells it from a later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def parse(cls, owner: Any) -> Process | None:
        """From an event's ``data.owner``; None unless all three parts are there and make sense."""
        if not isinstance(owner, dict):
            return None
        pid, ticks, boot = owner.get("pid"), owner.get("start_ticks"), owner.get("boot_id")
        if type(pid) is int and pid > 0 and type(ticks) is int and isinstance(boot, str) and boot:
            return cls(pid, ticks, boot)
        return None


class ProcessTable:
    """The processes of this host and pid namespace."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        try:
            self._boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            self._boot_id = ""  # not Linux: no process is ever judged

    def lives(self, process: Process) -> bool:
        """Whether this very process runs here. A zombie has ended."""
        if process.boot_id != self._boot_id:
            return False
        try:
            stat = (self._proc / str(process.pid) / "stat").read_text(errors="replace")
        except OSError:
            return False
        # The command's name may hold spaces and brackets; the fields after its last bracket do not.
        fields = stat.rpartition(")")[2].split()
        return fields[0] not in "ZX" and int(fields[19]) == process.start_ticks


@dataclass(slots=True)
class Watched:
    project: str | None
    prd_id: str
    run_id: str
    process: Process
    judged_at: int  # ms; until then it is on probation
    owned: bool = False
    misses: int = 0


class OwnerWatch:
    """One reader of the hub and one timer, which runs only while there is somebody to watch."""

    def __init__(self, hub: Hub, clock: Clock, processes: ProcessTable | None = None) -> None:
        self._hub = hub
        self._clock = clock
        self._processes = processes or ProcessTable()
        self._watched: dict[str, Watched] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._watched)

    async def follow(self) -> None:
        """Hear of runs as they open; first of those that are open already. Runs until cancelled."""
        subscription = (await self._hub.subscribe(OPENERS)).subscription
        for document in (await self._hub.log.entities(RUNS)).values():
            if document["finished_at"] is None and document["vanished_at"] is None:
                self._add(document, document["owner"], document["started_at"], owned=document["owned"])
        while True:
            outcome = await subscription.next()
            if isinstance(outcome, Batch):
                for event in outcome.events:
                    if event.prd_id is not None and event.run_id is not None:
                        self._add(event.as_dict(), event.data.get("owner"), event.received_at, owned=False)

    def _add(self, ids: dict[str, Any], owner: Any, opened_at: int, *, owned: bool) -> None:
        process = Process.parse(owner)
        if process is None:
            return
        watched = Watched(ids["project"], ids["prd_id"], ids["run_id"], process, opened_at + PROBATION_MS, owned)
        self._watched[watched.run_id] = watched
        self._arrived.set()

    async def watch(self) -> None:
        """Look at every watched process once a second. Runs until cancelled."""
        while True:
            if not self._watched:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.look()
            except ClaudeLoopError as failure:  # the log cannot be written: the next look tries again
                log.warning("could not report on run owners", code=failure.code)

    async def look(self) -> None:
        """Judge every watched process as of now. Raises ``LoadError`` when what was seen cannot be stored."""
        now_ms = self._clock.now_us() // 1000
        for watched in list(self._watched.values()):
            lives = self._processes.lives(watched.process)
            if lives:
                watched.misses = 0
                if not watched.owned and now_ms >= watched.judged_at:
                    await self._report(watched, "system.run_owned", now_ms)
                    watched.owned = True
                continue
            watched.misses += 1
            if not watched.owned:
                del self._watched[watched.run_id]
            elif watched.misses >= MISSES:
                if await self._is_open(watched):
                    await self._report(watched, "system.run_vanished", now_ms)
                del self._watched[watched.run_id]

    async def _is_open(self, watched: Watched) -> bool:
        key = run_key(watched.project, watched.prd_id, watched.run_id)
        document = (await self._hub.log.entities(key)).get(key)
        return document is not None and document["finished_at"] is None

    async def _report(self, watched: Watched, type_: str, now_ms: int) -> None:
        event = Event(
            type_,
            {"pid": watched.process.pid},
            id=new_event_id(self._clock),
            project=watched.project,
            prd_id=watched.prd_id,
            run_id=watched.run_id,
            source="daemon",
            at=now_ms,
        )
        await self._hub.publish([event])

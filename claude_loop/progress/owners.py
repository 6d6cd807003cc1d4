"""Watches the processes that own runs, so that one that dies without a word is noticed.

The shell that emits `prd.started` says who it is: pid, start time and boot. A process is watched only if it still lives
some seconds after it opened the run (a one-shot emitter does not), and what is seen becomes events, so that the read
model stays a function of the log alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from claude_loop.clock import Clock, until_tick
from claude_loop.errors import ClaudeLoopError, LoadError
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.progress.keys import RUNS, run_key
from claude_loop.subscription import Reset

log = structlog.get_logger(__name__)

# A process that emits once and ends is no loop; one that lives this long after opening its run is.
PROBATION_SECONDS = 5.0
POLL_SECONDS = 1.0
# What the process emitted last may still be on its way through the spool when it is found gone.
MISSES = 3

OPENERS = Filter(types=("prd.started", "run.started"))


@dataclass(frozen=True, slots=True)
class Process:
    """A process as ``/proc`` tells it from a later one with the same pid, and from one of another namespace."""

    pid: int
    start_ticks: int
    boot_id: str
    pid_namespace: str | None = None

    @classmethod
    def parse(cls, owner: Any) -> Process | None:
        """From an event's ``data.owner``; None unless pid, start and boot are there and make sense."""
        if not isinstance(owner, Mapping):
            return None
        pid, ticks, boot = owner.get("pid"), owner.get("start_ticks"), owner.get("boot_id")
        namespace = owner.get("pid_namespace")
        if type(pid) is int and pid > 0 and type(ticks) is int and isinstance(boot, str) and boot:
            return cls(pid, ticks, boot, namespace if isinstance(namespace, str) else None)
        return None


class ProcessTable:
    """The processes of this host and pid namespace."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        try:
            self._boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
            self._namespace = os.readlink(proc / "self/ns/pid")
        except OSError:
            self._boot_id = self._namespace = ""  # not Linux

    @property
    def can_judge(self) -> bool:
        """Whether it can be told of any process that it lives."""
        return bool(self._boot_id)

    def lives(self, process: Process) -> bool:
        """Whether this very process runs here. A zombie has ended."""
        if process.boot_id != self._boot_id or process.pid_namespace not in {None, self._namespace}:
            return False
        try:
            stat = (self._proc / str(process.pid) / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        except OSError:  # too many open files, say: nothing is known, and nobody is declared dead for that
            return True
        # The command's name may hold spaces and brackets; the fields after its last bracket do not.
        fields = stat.rpartition(")")[2].split()
        return fields[0] not in "ZX" and int(fields[19]) == process.start_ticks


@dataclass(slots=True, eq=False)
class Watched:
    """One run and its owner, which is on probation until ``judged_at`` (milliseconds since the epoch)."""

    project: str | None
    prd_id: str
    run_id: str
    process: Process
    judged_at: int
    owned: bool
    misses: int = 0

    @property
    def key(self) -> str:
        return run_key(self.project, self.prd_id, self.run_id)


class OwnerWatch:
    """One reader of the hub and one timer, which runs only while there is somebody to watch.

    ``probation`` and ``poll`` are seconds.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        processes: ProcessTable | None = None,
        *,
        probation: float = PROBATION_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._processes = processes or ProcessTable()
        self._probation_ms = round(probation * 1000)
        self._poll = poll
        self._watched: dict[str, Watched] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._watched)

    async def follow(self) -> None:
        """Hear of runs as they open; first of those that are open already. Runs until cancelled."""
        if not self._processes.can_judge:
            return
        subscription = (await self._hub.subscribe(OPENERS)).subscription
        knows_open_runs = False
        while True:
            try:
                if not knows_open_runs:
                    await self._take_up_open_runs()
                    knows_open_runs = True
                outcome = await subscription.next()
            except LoadError as failure:
                log.warning("could not hear of new runs", code=failure.code)
                await asyncio.sleep(self._poll)
                continue
            if isinstance(outcome, Reset):
                knows_open_runs = False
                continue
            for event in outcome.events:
                if event.prd_id is not None and event.run_id is not None:
                    owner = event.data.get("owner")
                    self._add(event.project, event.prd_id, event.run_id, owner, event.received_at)

    async def _take_up_open_runs(self) -> None:
        for run in (await self._hub.log.entities(RUNS)).values():
            if _may_vanish(run):
                since, owned = run["started_at"], run["owned"]
                self._add(run["project"], run["prd_id"], run["run_id"], run["owner"], since, owned=owned)

    def _add(
        self, project: str | None, prd_id: str, run_id: str, owner: Any, opened_at: int, *, owned: bool = False
    ) -> None:
        process = Process.parse(owner)
        if process is None:
            return
        # By a clock that was set back, what comes is received no earlier than what came before, so perhaps in hours.
        opened_at = min(opened_at, self._clock.now_us() // 1000)
        watched = Watched(project, prd_id, run_id, process, opened_at + self._probation_ms, owned)
        known = self._watched.get(watched.key)
        # `prd.started` and `run.started` may open one run together; the owner of the later one counts.
        if known is None or known.process != process:
            self._watched[watched.key] = watched
            self._arrived.set()

    async def watch(self) -> None:
        """Look at every watched process, once a second. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._watched:
                self._arrived.clear()
                await self._arrived.wait()
            await asyncio.sleep(until_tick(loop.time(), self._poll))
            try:
                await self.look()
            except ClaudeLoopError as failure:  # the log cannot be written: the next look tries again
                log.warning("could not report on run owners", code=failure.code)

    async def look(self) -> None:
        """Judge every watched process as of now. Raises ``LoadError`` when what was seen cannot be stored."""
        now_ms = self._clock.now_us() // 1000
        # A shell may own a hundred runs, one after the other: it is asked once.
        alive = {process: self._processes.lives(process) for process in {w.process for w in self._watched.values()}}
        for watched in list(self._watched.values()):
            if alive[watched.process]:
                watched.misses = 0
                if not watched.owned and now_ms >= watched.judged_at:
                    await self._report(watched, "system.run_owned", now_ms)
                    watched.owned = True
                continue
            watched.misses += 1
            if watched.owned and watched.misses < MISSES:
                continue
            if watched.owned and await self._is_open(watched):
                await self._report(watched, "system.run_vanished", now_ms)
            if self._watched.get(watched.key) is watched:  # nobody else took over meanwhile
                del self._watched[watched.key]

    async def _is_open(self, watched: Watched) -> bool:
        run = (await self._hub.log.entities(watched.key)).get(watched.key)
        return run is not None and _may_vanish(run)

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


def _may_vanish(run: dict[str, Any]) -> bool:
    """Whether the end of its owner would be news. A run that was superseded stays in the history as it was."""
    return run["finished_at"] is None and run["vanished_at"] is None and run["superseded_by"] is None

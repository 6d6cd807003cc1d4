"""Follows the output of every wrapped run and publishes what a reader and the read model need of it.

The log is the cursor: a chunk says where it ends, and what follows it is what is read next, whoever was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from claude_loop.adopt.chunks import Redact
from claude_loop.adopt.findings import Scanners
from claude_loop.adopt.run_directory import RefusedDirectory, RunDirectory
from claude_loop.adopt.run_output import Place, RunOutput, place_after
from claude_loop.clock import Clock, until_tick
from claude_loop.errors import Internal, LoadError, ShuttingDown
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.progress.keys import run_key
from claude_loop.progress.owners import ProcessTable
from claude_loop.run_files import own_process

log = structlog.get_logger(__name__)

T = TypeVar("T")
POLL_SECONDS = 0.25
# With nothing to follow, a new directory is found this soon.
IDLE_SECONDS = 1.0
RETRY_SECONDS = 1.0
# A step reads at most so many slices before it lets another run, and the publishers, have their turn.
_SLICES = 8
# Behind the output it works for half of the time, so that those who publish keep their processor.
_PAUSE_TO_WORK = 1.0
_SHORTEST_PAUSE = 0.002
# What others want to know of a run that is over has been read by then.
KEEP_SECONDS = 600.0
# The watch of owners has reported a run that vanished by then; whatever came later has hidden it again.
_VANISHED_SECONDS = 10.0
_LATEST_CHUNKS = 512
_POLITENESS = 5


@dataclass(slots=True)
class Followed:
    """One run. ``over_since``: everything was read and nothing more will come, on the monotonic clock."""

    directory: RunDirectory
    output: RunOutput
    over_since: float | None = None
    is_settled: bool = False


class OutputFollower:
    """``run`` follows until cancelled; ``close`` lets go of the files then."""

    def __init__(self, hub: Hub, runs: Path, scanners: Scanners, redact: Redact, clock: Clock) -> None:
        self._hub = hub
        self._runs = runs
        self._scanners = scanners
        self._redact = redact
        self._clock = clock
        self._processes = ProcessTable()
        us = own_process()
        self._namespace = None if us is None else us["pid_namespace"]
        self._followed: dict[str, Followed] = {}
        self._refused: dict[str, str] = {}
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="output-follower", initializer=_be_nice)

    def __len__(self) -> int:
        return len(self._followed)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                is_behind = await self._round()
            except ShuttingDown:
                return
            except (LoadError, OSError) as failure:
                log.warning("could not follow the output of runs; it is tried again", reason=str(failure))
                await self._forget()  # what was read and not published is read again
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not is_behind:
                live = any(followed.over_since is None for followed in self._followed.values())
                await asyncio.sleep(until_tick(loop.time(), POLL_SECONDS if live else IDLE_SECONDS))

    async def close(self) -> None:
        await self._forget()
        self._reading.shutdown(wait=False)

    async def _round(self) -> bool:
        """One step of every run; whether one of them has more to be read."""
        # With nothing to follow there is next to nothing to list, and no thread is woken for that.
        for name in await self._in(self._names) if self._followed else self._names():
            if name not in self._followed:
                await self._take_up(name)
        is_behind = False
        for name, followed in list(self._followed.items()):
            try:
                is_behind |= await self._step(followed)
            except (RefusedDirectory, Internal) as refusal:  # a defect of ours ends the following of one run alone
                self._refuse(name, refusal)
            except FileNotFoundError:  # somebody has removed it
                self._let_go(name)
        return is_behind

    def _names(self) -> list[str]:
        names = sorted(os.listdir(self._runs))
        for name in [name for name in self._refused if name not in names]:
            del self._refused[name]
        return [name for name in names if name not in self._refused]

    async def _take_up(self, name: str) -> None:
        try:
            directory = await self._in(lambda: RunDirectory.open(self._runs, name))
        except FileNotFoundError:
            return  # it is just being made, or removed
        except RefusedDirectory as refusal:
            self._refuse(name, refusal)
            return
        try:
            place = await self._place(directory.plan.run_id)
        except BaseException:
            directory.close()
            raise
        output = RunOutput(directory, self._scanners, self._redact, self._clock, place)
        self._followed[name] = Followed(directory, output)

    async def _place(self, run_id: str) -> Place:
        chunks = Filter(types=("output.chunk",), run_ids=(run_id,), sources=("output",))
        newest = await self._hub.log.read_backwards(None, _LATEST_CHUNKS, chunks)
        # An event that somebody else made may bear the run's name; ours bear its ids.
        return place_after([event for event in newest if event.id.startswith(f"{run_id}.out.")])

    async def _step(self, followed: Followed) -> bool:
        if followed.over_since is not None:
            await self._after(followed, followed.over_since)
            return False
        begun = self._clock.monotonic()
        for _ in range(_SLICES):
            events, more = await self._in(lambda: self._read(followed))
            if events:
                await self._hub.publish(events)
                await self._in(lambda: followed.directory.drop_before(followed.output.offset))
            if followed.over_since is not None:
                await self._in(followed.directory.drop_output)
            if not more:
                return False
        await asyncio.sleep(max(_SHORTEST_PAUSE, _PAUSE_TO_WORK * (self._clock.monotonic() - begun)))
        return True

    def _read(self, followed: Followed) -> tuple[list[Event], bool]:
        # Asked first: what was written before the end is read after it.
        is_over = followed.directory.has_ended() or not self._lives(followed)
        events, more = followed.output.step(late=is_over)
        if is_over and not more:
            events += followed.output.finish()
            followed.over_since = self._clock.monotonic()
        return events, more

    def _lives(self, followed: Followed) -> bool:
        """Whether the wrapper may still write. Where that cannot be judged, its own word is waited for."""
        owner = followed.directory.plan.owner
        if owner is None or not self._processes.can_judge or owner.pid_namespace != self._namespace:
            return True
        return self._processes.lives(owner)

    # -- afterwards --------------------------------------------------------------------------------------------------

    async def _after(self, followed: Followed, over_since: float) -> None:
        if not followed.is_settled and self._clock.monotonic() - over_since >= _VANISHED_SECONDS:
            await self._settle(followed)
            followed.is_settled = True
        elif followed.is_settled and await self._in(lambda: self._is_old(followed)):
            await self._in(lambda: followed.directory.remove(self._runs))
            self._let_go(followed.directory.plan.run_id)

    async def _settle(self, followed: Followed) -> None:
        """A run whose wrapper died has vanished, also if the last of its output was read after that was said."""
        plan = followed.directory.plan
        if plan.owner is None or await self._in(followed.directory.has_ended):
            return
        key = run_key(plan.project, plan.prd_id, plan.run_id)
        document = (await self._hub.log.entities(key)).get(key)
        if document is None or document["finished_at"] is not None or document["vanished_at"] is not None:
            return
        if document["superseded_by"] is not None:
            return
        now_ms = self._clock.now_us() // 1000
        event = Event(
            "system.run_vanished",
            {"pid": plan.owner.pid},
            id=f"{plan.run_id}.out.vanished",
            project=plan.project,
            prd_id=plan.prd_id,
            run_id=plan.run_id,
            source="daemon",
            at=now_ms,
        )
        await self._hub.publish([event])

    def _is_old(self, followed: Followed) -> bool:
        return self._clock.now_us() / 1e6 - followed.directory.changed_at() >= KEEP_SECONDS

    def _refuse(self, name: str, refusal: Exception) -> None:
        log.warning("a directory in runs/ is not followed", name=name[:200], reason=str(refusal))
        self._refused[name] = str(refusal)
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        followed = self._followed.pop(name, None)
        if followed is not None:
            followed.directory.close()

    async def _forget(self) -> None:
        for name in list(self._followed):
            self._let_go(name)

    async def _in(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)


def _be_nice() -> None:
    """On Linux a thread has a priority of its own: following takes what publishing leaves."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _POLITENESS)

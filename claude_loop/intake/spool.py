"""The spool's intake: one task that drains it, woken by the kernel when a file is written."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import HomeError, Internal
from claude_loop.hub import Hub
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.inotify import CREATE, MODIFY, MOVED_TO, Changes, Inotify
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool_commit import Stopping
from claude_loop.intake.spool_drain import SpoolDrain
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.supervision import TaskOwner

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
# Without inotify looking is all there is.
POLL_WITHOUT_INOTIFY = 0.05
FAILURE_PAUSE = 1.0
STOP_SECONDS = 10.0


class SpoolIntake:
    """Drains one home's spool into the hub. One at a time for a home: the daemon's lock sees to that."""

    def __init__(self, home: Home, hub: Hub, acceptor: Acceptor, clock: Clock) -> None:
        self._home = home
        self._hub = hub
        self._acceptor = acceptor
        self._clock = clock
        self._tasks = TaskOwner("spool")
        self._task: asyncio.Task[None] | None = None
        self._rejected = RejectedLines(home, acceptor.redactor, clock)
        self._wake = asyncio.Event()
        self._stopping = False
        self._failed = False
        self._drain: SpoolDrain | None = None
        self._watch: Inotify | None = None
        self._changes = Changes({}, complete=True)
        # What was spooled while no daemon was there has been read: who tells what it finds itself waits for that.
        self.caught_up = asyncio.Event()

    async def start(self) -> None:
        """Read the stored offsets and begin. Raises ``HomeError`` or ``LoadError``."""
        self._home.prepare()
        table = SpoolTable(await self._hub.log.spool_offsets())
        files = SpoolFiles(self._home)
        self._drain = SpoolDrain(files, table, self._hub, self._acceptor, self._rejected, self._clock)
        self._stopping = False
        self._start_watching()
        self._task = self._tasks.spawn(self._run(self._drain), "drain")

    async def stop(self) -> None:
        """Finish the batches that are on their way; the rest waits in its files."""
        self._stopping = True
        self._wake.set()
        if self._drain is not None and self._task is not None:
            self._drain.stop()
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        await self._tasks.close()
        self._stop_watching()

    def statistics(self) -> dict[str, Any]:
        """``{"backlog_files", "backlog_bytes", "files", "leaving", "events", "rejected", "rejected_lines", …}``."""
        figures = {} if self._drain is None else self._drain.statistics()
        if self._failed:
            figures["failure"] = Internal.code
        return {
            **figures,
            "rejected": self._rejected.count,
            "rejected_lines": list(self._rejected.last),
            "inotify": self._watch is not None,
        }

    async def _run(self, drain: SpoolDrain) -> None:
        while not self._stopping:
            try:
                pause = await drain.turn(self._take_changes)
                self._failed = False
                if pause > 0:
                    self.caught_up.set()
            except Stopping:
                return
            except Exception:  # nothing is lost by it: what was not committed is read again
                log.exception("draining the spool failed; it is tried again")
                self._failed = True
                drain.look_at_everything()
                self._restore_folders()
                pause = FAILURE_PAUSE
            await self._sleep(min(pause, POLL_SECONDS if self._watch else POLL_WITHOUT_INOTIFY))

    async def _sleep(self, seconds: float) -> None:
        """Until something changes, at most ``seconds``."""
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()
        if not self._stopping:
            self._wake.clear()

    # -- what the kernel tells ---------------------------------------------------------------------------------------

    def _start_watching(self) -> None:
        try:
            watch = Inotify()
            try:
                watch.watch(str(self._home.spool), MODIFY | CREATE | MOVED_TO)
                watch.watch(str(self._home.leaving), MODIFY)
                watch.watch(str(self._home.flush), CREATE | MOVED_TO)
            except OSError:
                watch.close()
                raise
        except OSError as failure:
            log.warning("no inotify: the spool is looked at 20 times a second", reason=str(failure))
            return
        self._watch = watch
        asyncio.get_running_loop().add_reader(watch.descriptor, self._something_changed)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.descriptor)
            self._watch.close()
            self._watch = None

    def _something_changed(self) -> None:
        self._gather()
        self._wake.set()

    def _gather(self) -> None:
        if self._watch is None:
            return
        names, complete = self._watch.read()
        for directory, entries in names.items():
            self._changes.names.setdefault(directory, set()).update(entries)
        self._changes = Changes(self._changes.names, self._changes.complete and complete)

    def _take_changes(self) -> Changes:
        """All that changed until now."""
        self._gather()
        changes, self._changes = self._changes, Changes({}, complete=True)
        if not changes.complete:
            self._restore_folders()
        return changes

    def _restore_folders(self) -> None:
        """Somebody may have removed a directory, and its watch with it."""
        try:
            self._home.prepare()
        except (HomeError, OSError) as failure:
            log.warning("the spool's directories cannot be made", reason=str(failure))
            return
        self._stop_watching()
        self._start_watching()

"""One turn of the spool's intake after the other: look, read, commit, answer, clean up.

A turn takes the time first and the kernel's word on what changed second, for the reason told in ``spool_merge``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from claude_loop.clock import Clock, until_tick
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.breath import Breath
from claude_loop.intake.inotify import Changes
from claude_loop.intake.rejected_lines import RejectedLine, RejectedLines
from claude_loop.intake.spool_commit import Committer, Publisher
from claude_loop.intake.spool_files import Place, SpoolFiles
from claude_loop.intake.spool_flush import FlushRequests
from claude_loop.intake.spool_leaving import SETTLE_SECONDS, Leaving
from claude_loop.intake.spool_merge import Merge
from claude_loop.intake.spool_names import is_readable_name, why_unreadable
from claude_loop.intake.spool_reading import LineReader
from claude_loop.intake.spool_table import SpoolFile, SpoolTable

log = structlog.get_logger(__name__)

# How often everything is looked at, whatever the kernel said.
LOOK_SECONDS = 1.0
# Known files whose size is looked at each time, in turn: a mount may hide from inotify what others write.
SIZES_PER_LOOK = 200
# What is no spool file may be on its way to becoming one, by a rename.
FOREIGN_SECONDS = 60.0
COUNT_SECONDS = 0.2
# A line from the near future is read when its time has come.
HELD_MARGIN_US = 500


class SpoolDrain:
    """What is left to do, and doing it. Owns no task and no timer."""

    def __init__(
        self,
        files: SpoolFiles,
        table: SpoolTable,
        hub: Publisher,
        acceptor: Acceptor,
        rejected: RejectedLines,
        clock: Clock,
    ) -> None:
        self._files = files
        self._table = table
        self._redactor = acceptor.redactor
        self._reader = LineReader(acceptor)
        self._rejected = rejected
        self._clock = clock
        self._breath = Breath(clock)
        self._committer = Committer(hub, table, rejected, self._reader)
        self._leaving = Leaving(files, table, self._committer, clock, self._breath)
        self._flushes = FlushRequests(files, table, clock)
        self._unread: set[str] = set()
        self._unread_leaving: set[str] = set()
        self._held: list[SpoolFile] = []
        self._foreign: dict[str, float] = {}
        self._stuck: set[str] = set()
        self._merge: Merge | None = None
        self._next_look = float("-inf")
        self._orphans_dropped = False
        self._last_pass_ms = 0.0
        self._counted = {"backlog_files": 0, "backlog_bytes": 0}
        self._counted_until = float("-inf")

    def stop(self) -> None:
        """Make the current turn end by ``Stopping`` rather than wait for a storage that fails."""
        self._committer.stop()

    def look_at_everything(self) -> None:
        """Trust nothing remembered about what has been read: the next turn looks at every file."""
        self._next_look = float("-inf")
        self._unread.update(self._table.spool)
        self._unread_leaving.update(self._table.leaving)

    async def turn(self, take_changes: Callable[[], Changes]) -> float:
        """Do all there is to do now. Returns seconds until the next turn if nothing changes before.

        Raises ``Stopping``.
        """
        self._breath.start()
        horizon_us = self._clock.now_us()
        self._note(take_changes())
        for file in self._held:
            self._mark(file)
        looking = self._clock.monotonic() >= self._next_look
        if looking:
            self._look()
        self._unread |= self._flushes.answer()
        held_until = await self._pass(horizon_us)
        self._flushes.answer()
        if looking:
            if not self._orphans_dropped:  # by now every file has been met
                self._table.drop_orphans(self._is_in_spool)
                self._orphans_dropped = True
            await self._clean_up()
            now = self._clock.monotonic()
            self._next_look = now + until_tick(now, LOOK_SECONDS)
        return self._pause(held_until)

    def _pause(self, held_until: int | None) -> float:
        if self._unread or self._unread_leaving:
            return 0.0
        pause = max(0.0, self._next_look - self._clock.monotonic())
        if held_until is not None:
            pause = min(pause, max(0, held_until + HELD_MARGIN_US - self._clock.now_us()) / 1e6)
        return pause

    def statistics(self) -> dict[str, Any]:
        """Figures for ``/status``."""
        failure = self._committer.failure
        return {
            **self._backlog(),
            "files": len(self._table.spool),
            "leaving": len(self._table.leaving),
            "events": self._committer.events,
            "flush_requests": len(self._flushes),
            "last_pass_ms": round(self._last_pass_ms, 3),
            "failure": None if failure is None else failure.code,
        }

    def _backlog(self) -> dict[str, int]:
        """Counted anew a few times a second at most: there may be many files, and somebody who polls for the end."""
        now = self._clock.monotonic()
        if now >= self._counted_until:
            waiting = len(self._unread) + len(self._unread_leaving)
            if self._merge is not None:
                waiting += self._merge.waiting
            behind = [file.size - file.offset for file in self._table if file.size > file.offset]
            self._counted = {"backlog_files": max(waiting, len(behind)), "backlog_bytes": sum(behind)}
            self._counted_until = now + COUNT_SECONDS
        return self._counted

    # -- looking -----------------------------------------------------------------------------------------------------

    def _note(self, changes: Changes) -> None:
        for directory, entries in changes.names.items():
            place = self._files.place_of(directory)
            if place == "spool":
                self._unread.update(entry for entry in entries if is_readable_name(entry))
            elif place == "leaving":
                self._unread_leaving.update(entries & self._table.leaving.keys())
            else:
                self._flushes.notice(entries)
        if not changes.complete:
            self.look_at_everything()

    def _look(self) -> None:
        """What the kernel may not have told: new entries, sizes, requests."""
        now = self._clock.monotonic()
        for entry in self._files.names("leaving"):
            if entry not in self._table.leaving and entry not in self._stuck:
                self._meet_leaving(entry, now)
        entries = set(self._files.names("spool"))
        for entry in entries - self._table.spool.keys() - self._stuck:
            reason = why_unreadable(entry)
            if reason is None:
                self._unread.add(entry)
            elif now - self._foreign.setdefault(entry, now) >= FOREIGN_SECONDS:
                self._set_aside("spool", entry, reason)
        for entry in self._foreign.keys() - entries:
            del self._foreign[entry]
        self._look_at_sizes()
        self._flushes.look()
        self._flushes.drop_stale()

    def _meet_leaving(self, entry: str, now: float) -> None:
        status = self._files.status("leaving", entry)
        file = None if status is None else self._table.meet_leaving(entry, status.st_ino)
        if file is not None:
            # The crash that left it here may have been a moment ago.
            file.due = now + SETTLE_SECONDS
            self._unread_leaving.add(entry)
        elif status is not None:
            self._set_aside("leaving", entry, "not a name that was given here")

    def _look_at_sizes(self) -> None:
        """A few each time; those looked at go to the end of the row."""
        for known in (self._table.leaving, self._table.spool):
            for entry in list(known)[:SIZES_PER_LOOK]:
                file = known.pop(entry)
                known[entry] = file
                status = self._files.status(file.place, entry)
                if status is None or status.st_size != file.size or status.st_ino != file.inode:
                    self._mark(file)

    def _mark(self, file: SpoolFile) -> None:
        if file.place == "leaving":
            self._unread_leaving.add(file.row)
        else:
            self._unread.add(file.name)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _pass(self, horizon_us: int) -> int | None:
        """Read and commit what is unread. Returns the time of the first line that waits, if one does."""
        self._held = []
        names, entries = self._unread - self._stuck, self._unread_leaving
        if not names and not entries:
            return None
        started = self._clock.monotonic()
        self._unread, self._unread_leaving = set(), set()
        leaving = {self._table.leaving[entry] for entry in entries if entry in self._table.leaving}
        # What was written to a name may lie in the file that was moved away a moment later.
        leaving.update(life for name in names for life in self._table.lives(name) if life.place == "leaving")
        merge = self._merge = Merge(self._files, self._table, self._reader, self._clock, self._breath, horizon_us)
        try:
            await self._commit_runs(merge, names, leaving)
        except BaseException:
            self._unread |= names
            self._unread_leaving |= entries
            raise
        finally:
            self._merge = None
        for place, entry, reason in merge.unreadable:
            self._set_aside(place, entry, reason)
        self._held = merge.held_files
        for file in merge.behind:
            self._mark(file)
        self._last_pass_ms = (self._clock.monotonic() - started) * 1000
        return horizon_us if merge.behind else merge.held_until

    async def _commit_runs(self, merge: Merge, names: set[str], leaving: set[SpoolFile]) -> None:
        await self._committer.settle()
        batch = self._committer.batch()
        async for records in merge.records(names, leaving):
            left = records
            while left:
                left = batch.add(left)
                if batch.is_full:
                    await self._committer.put(batch)
                    batch = self._committer.batch()
        await self._committer.put(batch)
        await self._committer.settle()

    def _is_in_spool(self, name: str, inode: int) -> bool:
        status = self._files.status("spool", name)
        return status is not None and status.st_ino == inode

    # -- cleaning up -------------------------------------------------------------------------------------------------

    async def _clean_up(self) -> None:
        await self._leaving.rename_quiet()
        for file in await self._leaving.seal():
            self._mark(file)
        self._unread.update(name for name in await self._leaving.remove() if self._has_younger(name))

    def _has_younger(self, name: str) -> bool:
        return self._files.status("spool", name) is not None

    def _set_aside(self, place: Place, entry: str, reason: str) -> None:
        self._rejected.record([RejectedLine(entry, 0, f"Moved to rejected/: {reason}.")])
        shown = self._redactor.text(entry)
        try:
            self._files.set_aside(place, entry, shown, self._clock.now_us())
        except OSError as failure:
            self._stuck.add(entry)
            log.warning("what cannot be read cannot be moved aside either", file=shown, reason=failure.strerror)
        else:
            log.warning("moved aside: this is no spool file", file=shown, reason=reason)

"""How a quiet file leaves without losing what its emitter may still write.

    rename it to leaving/<name>.<generation>   nobody can open it by name any more
    wait a second                              whoever was inside open() is through
    ask the kernel for a read lease            nobody has it open for writing, a stopped process neither: sealed
    read to the end, an unterminated rest too
    delete its offset row, in a commit
    unlink it

A crash after any step leads to a state from which the next daemon goes on: a file in ``leaving`` is read like one in
``spool``; one whose row is gone is read again, and all its ids are known.
"""

from __future__ import annotations

import errno

import structlog

from claude_loop.clock import Clock
from claude_loop.eventlog.base import SpoolOffset
from claude_loop.intake.breath import Breath
from claude_loop.intake.spool_commit import Committer
from claude_loop.intake.spool_files import SpoolFiles, Unreadable, is_alive
from claude_loop.intake.spool_table import SpoolFile, SpoolTable

log = structlog.get_logger(__name__)

# How long a file must not have grown before it leaves. While its process lives it may well go on, and what it emits
# in the second of waiting is read late: so not soon. A process that is gone adds nothing.
QUIET_GONE = 1.0
QUIET_UNKNOWN = 5.0
QUIET_ALIVE = 30.0
# Between the rename and the lease, for whoever had looked the old name up and not opened the file yet.
SETTLE_SECONDS = 1.0
LONGEST_WAIT = 30.0
# Where there are no leases: this long after the process is gone, or after the last line if the name tells no process.
WITHOUT_LEASE_GONE = 60.0
WITHOUT_LEASE_UNKNOWN = 600.0


class Leaving:
    """Takes quiet files through the steps, many at a time."""

    def __init__(
        self, files: SpoolFiles, table: SpoolTable, committer: Committer, clock: Clock, breath: Breath
    ) -> None:
        self._files = files
        self._table = table
        self._committer = committer
        self._clock = clock
        self._breath = breath
        self._leases = files.leases_work()
        self._renames = True
        if not self._leases:
            log.warning("no file leases here: spool files leave a minute after their process is gone")

    async def rename_quiet(self) -> None:
        """First step, for every file that has been read and has been quiet long enough."""
        now = self._clock.monotonic()
        for file in list(self._table.spool.values()):
            waits_in_place = not self._renames and file.due
            if file.is_read and not file.sealed and not waits_in_place and self._is_quiet(file, now):
                self._rename(file, now)
                await self._breath.take()

    def _is_quiet(self, file: SpoolFile, now: float) -> bool:
        quiet = now - file.changed
        if quiet < QUIET_GONE or now < file.due:
            return False
        if not (self._leases and self._renames):
            return self._outlived(file, now)
        if file.pid is None:
            return quiet >= QUIET_UNKNOWN
        return quiet >= QUIET_ALIVE or not is_alive(file.pid)

    def _outlived(self, file: SpoolFile, now: float) -> bool:
        """Whether, without a lease to tell, it is long enough since anybody could write."""
        if file.pid is None:
            return now - file.changed >= WITHOUT_LEASE_UNKNOWN
        if is_alive(file.pid):
            file.dead_since = None
            return False
        file.dead_since = now if file.dead_since is None else file.dead_since
        return now - max(file.dead_since, file.changed) >= WITHOUT_LEASE_GONE

    def _rename(self, file: SpoolFile, now: float) -> None:
        status = self._files.status("spool", file.name)
        if status is None:
            self._table.forget(file)
            return
        if status.st_ino != file.inode or status.st_size != file.size:
            return  # it has just changed: the next pass will see it
        if self._renames:
            try:
                self._files.leave(file.name, file.row)
            except OSError as failure:
                self._cannot_rename(file, failure, now)
                return
            self._table.left(file)
        file.due = now + SETTLE_SECONDS

    def _cannot_rename(self, file: SpoolFile, failure: OSError, now: float) -> None:
        if failure.errno == errno.EXDEV:  # `spool` is a mount of its own: files are removed where they are
            self._renames = False
            log.warning("spool is a file system of its own: its files stay until their process is gone")
        else:
            file.due = now + LONGEST_WAIT
            log.warning("a spool file cannot be moved", inode=file.inode, reason=failure.strerror)

    async def seal(self) -> list[SpoolFile]:
        """Second step, for every file whose time has come. Returns those in which something is left to read."""
        now = self._clock.monotonic()
        unread = []
        for file in self._candidates():
            if file.sealed or now < file.due:
                continue
            self._try_to_seal(file, now)
            if file.size > file.offset:
                unread.append(file)
            await self._breath.take()
        return unread

    def _candidates(self) -> list[SpoolFile]:
        files = list(self._table.leaving.values())
        if not self._renames:
            files += [file for file in self._table.spool.values() if file.is_read and file.due]
        return files

    def _try_to_seal(self, file: SpoolFile, now: float) -> None:
        try:
            writers, size = self._files.writers(file.place, file.entry)
        except (FileNotFoundError, Unreadable):
            self._table.forget(file)
            return
        if size != file.size:
            file.size, file.changed, file.dead_since = size, now, None
        if writers == "none" or (writers == "unknown" and self._outlived(file, now)):
            file.sealed = True
        else:
            file.due = now + min(LONGEST_WAIT, SETTLE_SECONDS * 2**file.refusals)
            file.refusals = min(file.refusals + 1, 6)

    async def remove(self) -> list[str]:
        """Last steps, for every sealed file that is read to its end. Returns their names. Raises ``Stopping``."""
        done = [file for file in self._table if file.sealed and file.offset >= file.size]
        if not done:
            return []
        self._table.row_changes += [SpoolOffset(file.row, file.inode, None) for file in done]
        await self._committer.put(self._committer.batch())
        await self._committer.settle()
        for file in done:
            self._files.remove(file.place, file.entry)
            self._table.forget(file, row=False)
            await self._breath.take()
        return [file.name for file in done]

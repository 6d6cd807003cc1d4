"""Answering `flush/<stem>.<n>`: the request is removed once line n of that file is committed."""

from __future__ import annotations

from claude_loop.clock import Clock
from claude_loop.intake.spool_files import SpoolFiles, is_alive
from claude_loop.intake.spool_names import SUFFIX, FlushRequest, author
from claude_loop.intake.spool_table import SpoolTable

# A request whose emitter is gone waits for nobody. While it lives a removal would be a promise.
STALE_SECONDS = 60.0
STALE_UNKNOWN_SECONDS = 3600.0


class FlushRequests:
    """The requests that have been seen and not answered."""

    def __init__(self, files: SpoolFiles, table: SpoolTable, clock: Clock) -> None:
        self._files = files
        self._table = table
        self._clock = clock
        self._waiting: dict[str, FlushRequest | None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def notice(self, entries: set[str]) -> None:
        """Requests that have appeared."""
        for entry in entries:
            self._waiting[entry] = FlushRequest.parse(entry)

    def look(self) -> None:
        """Notice all there are, and forget those that were withdrawn."""
        found = set(self._files.flush_requests())
        for entry in self._waiting.keys() - found:
            del self._waiting[entry]
        self.notice(found - self._waiting.keys())

    def answer(self) -> set[str]:
        """Remove the requests that are fulfilled. Returns the names of files that others wait for."""
        unread = set()
        for entry, request in list(self._waiting.items()):
            if request is None:
                continue
            missing = self._missing(request)
            if missing is None:
                self._files.answer_flush(entry)
                del self._waiting[entry]
            else:
                unread.add(missing)
        return unread

    def _missing(self, request: FlushRequest) -> str | None:
        """The file that must be read first; None when the line is committed.

        The emitter wrote the line before it asked: if all that is in the file now has been read, the line has been,
        whether or not its number is known; and if there is no file any more, it was read to its end and removed.
        """
        name = request.stem + SUFFIX
        lives = self._table.lives(name)
        if any(life.line >= request.line for life in lives):
            return None
        status = self._files.status("spool", name)
        if status is not None and not any(life.inode == status.st_ino for life in lives):
            return name
        for life in lives:
            status = self._files.status(life.place, life.entry)
            if status is not None and status.st_size > max(life.offset, life.rest_at):
                return name
        return None

    def drop_stale(self) -> None:
        """Remove what nobody can be waiting for: the emitter is gone, or the name says nothing."""
        for entry, request in list(self._waiting.items()):
            age = self._files.flush_age(entry, self._clock.now_us())
            found = None if request is None else author(request.stem)
            if age is None:
                del self._waiting[entry]
            elif age >= STALE_SECONDS and (
                request is None
                or (found is not None and not is_alive(found.pid))
                or (found is None and age >= STALE_UNKNOWN_SECONDS)
            ):
                self._files.answer_flush(entry)
                del self._waiting[entry]

"""Checkpoints of the log's WAL, beside the writer: what it holds moves into events.db while commits go on.

SQLite would do it in the commit that makes the WAL long enough, which then takes some 50 ms longer than others. How
checkpoints and writers get on: https://sqlite.org/wal.html, "Checkpointing".
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import structlog

from claude_loop.eventlog.sqlite_file import open_checkpointer

log = structlog.get_logger(__name__)

# A checkpoint is due after about this many pages, which are 16 MiB. The writer makes one by itself when four times as
# many have gathered: while commits follow each other without a pause, the WAL begins anew only then.
DUE_PAGES = 4_000
# What a commit writes beside the rows of its events: pages of the indexes and of the read model.
_PAGES_OF_A_COMMIT = 12


class Checkpoints:
    """Of one connection of the writer, and used by who has that; each checkpoint has a thread of its own."""

    def __init__(self, path: Path, durability: str) -> None:
        """Raises ``sqlite3.Error``."""
        self._connection = open_checkpointer(path, durability)
        self._pages = 0
        self._thread: threading.Thread | None = None

    def committed(self, events: int) -> None:
        """A commit of so many events has taken place."""
        self._pages += _PAGES_OF_A_COMMIT + events
        if self._pages >= DUE_PAGES and (self._thread is None or not self._thread.is_alive()):
            self._pages = 0
            thread = threading.Thread(target=self._checkpoint, name="eventlog-checkpoint", daemon=True)
            try:
                thread.start()
            except RuntimeError as failure:  # no room for one more: SQLite makes the checkpoint in a commit, in the end
                log.warning("the log's WAL is not moved into its file for now", reason=str(failure))
            else:
                self._thread = thread

    def close(self) -> None:
        """Blocks until a checkpoint that is under way is complete."""
        if self._thread is not None:
            self._thread.join()
        self._connection.close()

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as failure:
            # Nothing is lost: the WAL keeps it. What ails the disk, the next commit tells publishers.
            log.warning("the log's WAL could not be moved into its file", reason=str(failure))

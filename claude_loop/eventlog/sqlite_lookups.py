"""What numbering reads of events.db: the log as it is once the commit under way has been stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from claude_loop.eventlog.sqlite_commit import Lane
from claude_loop.eventlog.sqlite_file import open_reader
from claude_loop.eventlog.sqlite_rows import find_by_id, find_recent, keys_under, load_document
from claude_loop.events import Event


class Lookups:
    """Of the writer, and used by its thread. All raise ``sqlite3.Error``, and ``EarlierCommitFailed`` if what they rest
    on was not stored after all.

    Ids are looked up in every commit, beside the transaction under way. Documents and facts are mostly in memory: what
    is not waits until that transaction is through.
    """

    def __init__(self, path: Path, lane: Lane, connection: Callable[[], sqlite3.Connection]) -> None:
        """``connection`` gives the write connection, which is the other thread's while a commit is under way."""
        self._path = path
        self._lane = lane
        self._connection = connection
        self._reader: sqlite3.Connection | None = None

    def open(self) -> None:
        self._reader = open_reader(self._path)
        # Every commit of the other connection makes void what this one has cached.
        self._reader.execute("PRAGMA cache_size = -256")

    def document(self, key: str) -> dict[str, Any] | None:
        self._lane.insist()
        return load_document(self._connection(), "read_model", key)

    def keys_under(self, prefix: str) -> list[str]:
        self._lane.insist()
        return keys_under(self._connection(), "read_model", prefix)

    def recent(self, project: str | None, prd_id: str | None, type_: str, most: int) -> list[Event]:
        """``facts.Recent``."""
        self._lane.insist()
        return find_recent(self._connection(), project, prd_id, type_, most)

    def by_id(self, ids: Sequence[str]) -> dict[str, Event]:
        """The events there are among ``ids``."""
        commit = self._lane.commit
        if commit is None:
            return find_by_id(self._connection(), ids)
        assert self._reader is not None  # noqa: S101 - for the type checker: opened with the write connection
        found = find_by_id(self._reader, ids)
        by_id = commit.by_id
        found.update((id_, by_id[id_]) for id_ in by_id.keys() & ids)
        return found

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

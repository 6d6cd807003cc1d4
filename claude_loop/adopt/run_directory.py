"""One run's directory as the daemon reads it: nothing in it is trusted to be what its name says."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_loop.adopt.wrapped_runs import is_moment
from claude_loop.id_rules import ID_PATTERN
from claude_loop.progress.owners import Process
from claude_loop.run_files import (
    CAME,
    END_JSON,
    RUN_JSON,
    SEGMENT_BYTES,
    is_directory_name,
    is_times_name,
    segment_name,
    segment_number,
    times_name,
)

_LARGEST_NOTE = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the open of a FIFO would wait for its writer for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class RefusedDirectory(Exception):
    """Not a directory that our wrapper can have made; ``str`` says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run.json` says, as far as the follower needs it."""

    run_id: str
    project: str | None
    prd_id: str
    started_at: int  # milliseconds
    owner: Process | None


class RunDirectory:
    """Opened by ``opened``. Methods raise ``OSError``, and ``RefusedDirectory`` for files that are no such thing."""

    def __init__(self, descriptor: int, plan: Plan) -> None:
        self._descriptor = descriptor
        self.plan = plan

    @classmethod
    def open(cls, runs: Path, name: str) -> RunDirectory:
        """Raises ``RefusedDirectory``, and ``FileNotFoundError`` while there is no `run.json`."""
        if not is_directory_name(name):
            raise RefusedDirectory("its name is none of a run")
        try:
            descriptor = os.open(runs / name, _DIRECTORY)
        except OSError as failure:
            if failure.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise RefusedDirectory("it is no directory") from None
            raise
        try:
            _insist_on_ours(os.fstat(descriptor), "it")
            return cls(descriptor, _plan(_note(descriptor, RUN_JSON), name))
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def has_ended(self) -> bool:
        return self._status(END_JSON) is not None

    def changed_at(self) -> float:
        """When something was last made or removed here, seconds since the epoch."""
        return os.fstat(self._descriptor).st_mtime

    def read(self, offset: int, size: int) -> tuple[int, bytes, float]:
        """Up to ``size`` bytes from ``offset`` on, from where they begin, and when they were written at the latest.

        They begin later where a segment is missing.
        """
        wanted = offset // SEGMENT_BYTES + 1
        for number in sorted(number for number in self._segments() if number >= wanted):
            begin = max(offset, (number - 1) * SEGMENT_BYTES)
            with _opened(self._descriptor, segment_name(number)) as (descriptor, status):
                room = number * SEGMENT_BYTES - begin
                data = os.pread(descriptor, min(size, room), begin - (number - 1) * SEGMENT_BYTES)
            if data:
                return begin, data, status.st_mtime
        return offset, b"", 0.0

    def came_at(self, offset: int) -> int | None:
        """When the byte at ``offset`` came, milliseconds since the epoch, if the wrapper has noted it."""
        try:
            with _opened(self._descriptor, times_name(offset // SEGMENT_BYTES + 1)) as (descriptor, status):
                return _came_at(descriptor, status.st_size // CAME.size, offset)
        except FileNotFoundError:
            return None

    def drop_before(self, offset: int) -> None:
        """Remove the segments that end at or before ``offset``."""
        for number in self._segments():
            if number * SEGMENT_BYTES <= offset:
                self._drop(number)

    def drop_output(self) -> None:
        """Remove all segments: the run is over, and the log has its output, without the secrets."""
        for number in self._segments():
            self._drop(number)

    def _drop(self, number: int) -> None:
        os.unlink(segment_name(number), dir_fd=self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(times_name(number), dir_fd=self._descriptor)

    def remove(self, runs: Path) -> None:
        """Remove everything. What somebody has put there besides stays, and the directory with it."""
        for entry in os.listdir(self._descriptor):
            notes = entry in {RUN_JSON, END_JSON, f".{RUN_JSON}", f".{END_JSON}"}
            if notes or segment_number(entry) is not None or is_times_name(entry):
                os.unlink(entry, dir_fd=self._descriptor)
        try:
            os.rmdir(runs / self.plan.run_id)
        except OSError as failure:
            if failure.errno != errno.ENOTEMPTY:
                raise

    def _segments(self) -> list[int]:
        numbers = map(segment_number, os.listdir(self._descriptor))
        return [number for number in numbers if number is not None]

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None


def _came_at(descriptor: int, records: int, offset: int) -> int | None:
    """Of the last record that begins at or before ``offset``."""
    low, high, found = 0, records, None
    while low < high:
        middle = (low + high) // 2
        record = os.pread(descriptor, CAME.size, middle * CAME.size)
        if len(record) < CAME.size:
            return None  # it was cut off meanwhile
        position, came = CAME.unpack(record)
        if position <= offset:
            low, found = middle + 1, came
        else:
            high = middle
    return found


def _insist_on_ours(status: os.stat_result, what: str) -> None:
    if status.st_uid != os.geteuid():
        raise RefusedDirectory(f"{what} belongs to somebody else")


@contextlib.contextmanager
def _opened(directory: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    try:
        descriptor = os.open(name, _FILE, dir_fd=directory)
    except OSError as failure:
        if failure.errno == errno.ELOOP:
            raise RefusedDirectory(f"its {name} is a symbolic link") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RefusedDirectory(f"its {name} is not a regular file")
        _insist_on_ours(status, f"its {name}")
        yield descriptor, status
    finally:
        os.close(descriptor)


def _note(directory: int, name: str) -> Any:
    with _opened(directory, name) as (descriptor, status):
        if status.st_size > _LARGEST_NOTE:
            raise RefusedDirectory(f"its {name} is too large")
        try:
            return json.loads(os.read(descriptor, _LARGEST_NOTE))
        except (ValueError, RecursionError):
            raise RefusedDirectory(f"its {name} is not JSON") from None


def _plan(note: Any, name: str) -> Plan:
    if not isinstance(note, dict) or note.get("run_id") != name:
        raise RefusedDirectory(f"its {RUN_JSON} is of another run")
    prd_id, project, started = note.get("prd_id"), note.get("project"), note.get("started_at")
    if not isinstance(prd_id, str) or not is_moment(started) or not _are_ids(prd_id, project):
        raise RefusedDirectory(f"its {RUN_JSON} has not what it should")
    return Plan(name, project, prd_id, started // 1000, Process.parse(note.get("owner")))


def _are_ids(prd_id: str, project: Any) -> bool:
    given = [prd_id] if project is None else [prd_id, project]
    return all(isinstance(value, str) and re.match(ID_PATTERN, value) is not None for value in given)

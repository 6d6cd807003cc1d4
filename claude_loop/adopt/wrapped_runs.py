"""The runs of `claude-loop run`: what the wrapper wrote down of those that are open."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import structlog

from claude_loop.clock import LATEST_MS, Clock, until_tick
from claude_loop.errors import LoadError, ShuttingDown
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.id_rules import ID_PATTERN
from claude_loop.progress.keys import run_key

log = structlog.get_logger(__name__)

_LARGEST_NOTE = 1024 * 1024
_LONGEST_ID = 128
# The log is asked about a run this often; the wrapper's own note of its end is looked for each time.
_ASK_SECONDS = 1.0
# A script that says that it is done may have a last thing to do.
_AFTER_SAID_MS = 1000
# Without O_NONBLOCK the open of a FIFO would wait for its writer for ever.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

# What is said of a run before it is published: without secrets, and within the limits of an event.
Tidy = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class WrappedRun:
    """`run.json`, as far as it is needed here. ``started_at`` and ``ended_at`` are milliseconds since the epoch."""

    run_id: str
    project: str | None
    prd_id: str
    cwd: Path
    script: Path | None = None
    prd_file: str | None = None
    title: str | None = None
    passing: frozenset[str] | None = None  # what its plan had as done when it began; None: not known
    started_at: int = 0
    ended_at: int | None = None

    @property
    def key(self) -> str:
        return run_key(self.project, self.prd_id, self.run_id)

    def event(self, type_: str, data: dict[str, Any], name: str, source: str, at: int, **ids: Any) -> Event:
        """An event of this run whose id follows from ``name``: told again after a crash, it is the same."""
        id_ = f"{self.run_id}.{name}"
        if len(id_) > _LONGEST_ID:
            id_ = f"{hashlib.sha256(self.run_id.encode()).hexdigest()[:32]}.{name}"[:_LONGEST_ID]
        return Event(
            type_,
            data,
            id=id_,
            project=self.project,
            prd_id=self.prd_id,
            run_id=self.run_id,
            source=source,
            at=at,
            **ids,
        )


@dataclass(slots=True)
class WrappedRuns:
    """Finds them. A run that is over is shown with its end until ``close``, so that its last facts are found too."""

    hub: Hub
    runs: Path
    clock: Clock
    _noted: dict[str, WrappedRun] = field(default_factory=dict)
    # By key: when the log was last asked, and the end that it knew of.
    _asked: dict[str, tuple[float, int | None]] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)

    async def current(self) -> list[WrappedRun]:
        """Those open, and those that ended and were not closed. Raises ``LoadError``."""
        found: list[WrappedRun] = []
        for name in self._names():
            run = None if name in self._done else self._noted.get(name) or self._read(name)
            # Before its first event is in the log there is no run to say anything about.
            if run is None or not await self._is_in_the_log(run):
                continue
            self._noted[name] = run
            ended_at = self._end_of(run)
            found.append(run if ended_at is None else replace(run, ended_at=ended_at))
        return found

    async def _is_in_the_log(self, run: WrappedRun) -> bool:
        now = self.clock.monotonic()
        asked = self._asked.get(run.key)
        if asked is None or now - asked[0] >= _ASK_SECONDS:
            document = (await self.hub.log.entities(run.key)).get(run.key)
            if document is None:
                return False
            ends = (document["finished_at"], document["vanished_at"])
            self._asked[run.key] = now, next((end for end in ends if end is not None), None)
        return True

    def _end_of(self, run: WrappedRun) -> int | None:
        """As the wrapper wrote it down; else, where it was killed, as the log knows it."""
        noted, known = _ended_at(self.runs / run.run_id), self._asked[run.key][1]
        if noted is not None or known is None:
            return noted
        return known + _AFTER_SAID_MS

    def close(self, run: WrappedRun) -> None:
        self._done.add(run.run_id)
        self._noted.pop(run.run_id, None)
        self._asked.pop(run.key, None)

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self.runs)
        except FileNotFoundError:
            return []
        self._done.intersection_update(names)
        return sorted(names)

    def _read(self, name: str) -> WrappedRun | None:
        folder = self.runs / name
        try:
            return parse_run(read_small_file(folder / "run.json", follow=False), name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as failure:
            if name not in self._refused:
                self._refused.add(name)
                log.warning("a run's directory is not what the wrapper makes", run=name, reason=str(failure))
            return None


def parse_run(text: bytes, name: str) -> WrappedRun:
    """Raises ``ValueError`` for what the wrapper would not have written."""
    note = _decoded(text)
    if not isinstance(note, dict) or note.get("run_id") != name:
        raise ValueError("run.json is of another run")
    prd_id, project, cwd, started = note.get("prd_id"), note.get("project"), note.get("cwd"), note.get("started_at")
    ids = [name, prd_id] if project is None else [name, prd_id, project]
    if not all(isinstance(id_, str) and re.match(ID_PATTERN, id_) for id_ in ids):
        raise ValueError("run.json names no run and PRD")
    if not isinstance(cwd, str) or not cwd.startswith("/") or not is_moment(started):
        raise ValueError("run.json does not say where and when")
    script, prd_file, title = note.get("script"), note.get("prd_file"), note.get("title")
    if not all(_can_be_path(path) for path in (cwd, script, prd_file) if isinstance(path, str)):
        raise ValueError("run.json names what no file can be called")
    return WrappedRun(
        name,
        project,
        str(prd_id),
        Path(cwd),
        Path(cwd, script) if isinstance(script, str) and script else None,
        prd_file if isinstance(prd_file, str) and prd_file else None,
        title if isinstance(title, str) and title else None,
        frozenset(map(str, passing)) if isinstance(passing := note.get("passing"), list) else None,
        started // 1000,
    )


def _ended_at(folder: Path) -> int | None:
    try:
        note = _decoded(read_small_file(folder / "end.json", follow=False))
    except (OSError, ValueError):
        return None  # not there, or not written to its end
    ended = note.get("ended_at") if isinstance(note, dict) else None
    return ended // 1000 if type(ended) is int else None


def _decoded(text: bytes) -> Any:
    """Raises ``ValueError``."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_moment(us: object) -> TypeGuard[int]:
    """Whether a note's time, in microseconds since the epoch, can be the time of an event."""
    return type(us) is int and 0 <= us // 1000 <= LATEST_MS


def _can_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def read_small_file(path: Path, most: int = _LARGEST_NOTE, *, follow: bool = True) -> bytes:
    """A regular file of at most ``most`` bytes. Raises ``OSError``; ``ValueError`` for what is no such file."""
    descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        if status.st_size > most:
            raise ValueError(f"{path.name} has {status.st_size} bytes")
        return os.read(descriptor, most + 1)
    finally:
        os.close(descriptor)


async def keep_looking(
    look: Callable[[], Awaitable[bool]], forget: Callable[[], None], seconds: float, idle: float, what: str
) -> None:
    """``look`` again and again, until the hub stops: every ``seconds`` where it found a run, else every ``idle``. After
    a failure ``forget`` what was found and not published."""
    loop = asyncio.get_running_loop()
    while True:
        pause = seconds
        try:
            pause = seconds if await look() else idle
        except ShuttingDown:
            return
        except (LoadError, OSError) as failure:
            log.warning("could not look at wrapped runs; it is tried again", what=what, reason=str(failure))
            forget()
        await asyncio.sleep(until_tick(loop.time(), pause))


async def events_of(hub: Hub, run: WrappedRun, *types: str, most: int) -> list[Event]:
    """What the log has of a run, newest first."""
    return await hub.log.read_backwards(None, most, Filter(types=types, run_ids=(run.run_id,), prd_ids=(run.prd_id,)))

"""Emitting through the spool: append one line to a file of one's own, and be done.

Works with the daemon down, needs no token, and is drained exactly once. Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from claude_loop.context import inherited, silenced
from claude_loop.paths import Home, open_private

# As in the bash emitter: a longer value is cut before it is written, and says by how much.
MAX_VALUE_BYTES = 16_384
_LONG_LINE = 65_536
_POLL_SECONDS = 0.005


class SpoolWriter:
    """Appends events to ``spool/<epoch µs>-<pid>-<random>.jsonl``. Safe with threads, and after ``fork``."""

    def __init__(self, home: Home | None = None, source: str = "python") -> None:
        self._home = home or Home.from_environment()
        self._source = source
        self._lock = threading.Lock()
        self._pid = 0
        self._stem = ""
        self._count = 0

    def emit(self, type_: str, data: Mapping[str, Any], **ids: str | None) -> str:
        """Append one event; ids left out or None come from the environment. Returns the event's id.

        Raises ``OSError`` when the spool cannot be written, ``TypeError`` or ``ValueError`` when ``data`` is
        no JSON. With ``CLAUDE_LOOP_DISABLE=1`` nothing is written.
        """
        context = inherited() | {key: value for key, value in ids.items() if value is not None}
        now_us = time.time_ns() // 1000
        with self._lock:
            event_id = self._next_id(now_us)
            record = {
                "id": event_id,
                "type": type_,
                **{key: value for key, value in context.items() if value is not None},
                "source": self._source,
                "timestamp": _timestamp(now_us),
                "data": dict(data),
            }
            line = _encode(record)
            if not silenced():
                self._append(line)
        return event_id

    def _next_id(self, now_us: int) -> str:
        if self._pid != os.getpid():  # first use, or the child of a fork: the parent's file is not ours
            self._pid = os.getpid()
            self._stem = f"{now_us}-{self._pid}-{os.urandom(4).hex()}"
            self._count = 0
        self._count += 1
        return f"{self._stem}.{self._count}"

    def _append(self, line: bytes) -> None:
        path = self._home.spool / f"{self._stem}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            descriptor = open_private(path, flags)
        except FileNotFoundError:
            self._home.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = open_private(path, flags)
        try:
            # Opened anew each time: the daemon may rename the file away between two events.
            record = b"\n" + line + b"\n"
            if os.write(descriptor, record) < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything emitted so far is committed; False if it is not within ``seconds``."""
        with self._lock:
            if silenced() or self._count == 0 or self._pid != os.getpid():
                return True
            request = self._home.flush / f"{self._stem}.{self._count}"
        deadline = time.monotonic() + seconds
        self._home.flush.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(open_private(request, os.O_WRONLY | os.O_CREAT))
        while request.exists():
            if time.monotonic() >= deadline:
                request.unlink(missing_ok=True)
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _timestamp(us: int) -> str:
    seconds, micros = divmod(us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def _encode(record: dict[str, Any]) -> bytes:
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
    if len(line) > _LONG_LINE:
        record["data"] = _cut(record["data"])
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
    return line


def _cut(value: Any) -> Any:
    """``value`` with its long strings cut at a character's edge."""
    if isinstance(value, str):
        encoded = value.encode(errors="replace")
        if len(encoded) <= MAX_VALUE_BYTES:
            return value
        kept = encoded[:MAX_VALUE_BYTES].decode(errors="ignore")
        return f"{kept}…[{len(encoded) - len(kept.encode())} bytes cut]"
    if isinstance(value, Mapping):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(_cut_all(value))
    return value


def _cut_all(values: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    return map(_cut, values)

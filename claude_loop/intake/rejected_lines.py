"""What the spool held that could not become an event: kept in `rejected/lines.jsonl`, the last ones at hand."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from claude_loop.clock import Clock, rfc3339
from claude_loop.intake.redact import Redactor
from claude_loop.intake.shorten import cut_text
from claude_loop.paths import Home, open_private

log = structlog.get_logger(__name__)

SHOWN = 20
KEPT_BYTES = 1_024
# Two files of this size at most: whoever spools garbage all night must not fill the disk with our notes of it.
FILE_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """``offset`` is where the line starts; ``line`` is raw."""

    file: str
    offset: int
    reason: str
    line: bytes = b""


class RejectedLines:
    """Counts, shows and keeps rejected lines, redacted and shortened. After a crash one may be noted twice."""

    def __init__(self, home: Home, redactor: Redactor, clock: Clock) -> None:
        self._path = home.rejected / "lines.jsonl"
        self._redactor = redactor
        self._clock = clock
        self.count = 0
        self.last: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        self._load()

    def _load(self) -> None:
        """What was rejected before a restart still wants to be seen. Removing the file forgets it."""
        try:
            with os.fdopen(open_private(self._path, os.O_RDONLY), "rb") as file:
                lines = file.read(2 * FILE_BYTES).splitlines()
        except OSError:
            return
        self.count = len(lines)
        for line in lines[-SHOWN:]:
            with contextlib.suppress(orjson.JSONDecodeError):  # torn by a crash
                self.last.append(orjson.loads(line))

    def record(self, rejected: list[RejectedLine]) -> None:
        """Note lines that are about to be passed over."""
        if not rejected:
            return
        at = rfc3339(self._clock.now_us() // 1000)
        notes = [self._note(line, at) for line in rejected]
        self.count += len(notes)
        self.last.extend(notes)
        try:
            self._append(b"".join(orjson.dumps(note) + b"\n" for note in notes))
        except OSError as failure:  # they are still shown; the disk may be full
            log.warning("rejected spool lines could not be kept", count=len(notes), reason=str(failure))

    def _note(self, rejected: RejectedLine, at: str) -> dict[str, Any]:
        # Redacted before it is cut: half a key no longer looks like one.
        text = self._redactor.text(rejected.line[: 64 * KEPT_BYTES].decode(errors="replace"))
        return {
            "file": self._redactor.text(rejected.file.encode(errors="replace").decode()),
            "offset": rejected.offset,
            "reason": cut_text(self._redactor.text(rejected.reason), KEPT_BYTES),
            "line": cut_text(text, KEPT_BYTES),
            "at": at,
        }

    def _append(self, lines: bytes) -> None:
        descriptor = open_private(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size > FILE_BYTES:
                os.rename(self._path, self._path.with_name("lines.1.jsonl"))
            os.write(descriptor, lines)
        finally:
            os.close(descriptor)

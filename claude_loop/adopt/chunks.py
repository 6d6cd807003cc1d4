"""Cuts a run's output into the pieces that are stored: one iteration each, whole lines, a bounded amount in all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from claude_loop.formats.plain_text import plain

CHUNK_BYTES = 16 * 1024
# Of one iteration so much text is stored; what comes then is shown now and then, by its end.
ITERATION_BYTES = 1024 * 1024
CHUNK_SECONDS = 1.0
_EXCERPT_BYTES = 4 * 1024
# A secret is known by what stands before it, too, such as `password:`. So far it is looked for around a cut.
_SEAM = 512
_MOST_SEAMS = 8
_LONGEST_PAUSE = 600.0
# The pause between excerpts doubles with each of so many bytes: however long an iteration lasts, they stay few.
_DOUBLES_AFTER = 64 * 1024
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

Redact = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """``size`` bytes of output from ``offset`` on; ``left_out`` of them are not in ``text``."""

    offset: int
    size: int
    text: str
    iteration: int | None
    left_out: int = 0


class Chunks:
    """Fed with pieces of output one after the other; gives the chunks that are complete. Times are in seconds."""

    def __init__(self, redact: Redact, offset: int, iteration: int | None, stored: int, now: float) -> None:
        self.iteration = iteration
        self._redact = redact
        self._offset = offset  # of the next byte that is in no chunk yet
        self._pending = bytearray()
        self._left_out = 0  # bytes before those pending that no chunk will show
        self._stored = stored
        self._since = now
        self._inside_key = b""

    @property
    def offset(self) -> int:
        return self._offset

    def feed(self, piece: bytes, now: float) -> list[Chunk]:
        """Take the next piece of the current iteration, which ends where a chunk may end."""
        if not self._pending and not self._left_out:
            self._since = now
        self._pending += piece
        if self._is_thinned:
            surplus = len(self._pending) - _EXCERPT_BYTES - _SEAM
            if surplus > 0:
                self._left_out += surplus
                del self._pending[:surplus]
            return []
        chunks = []
        while len(self._pending) >= CHUNK_BYTES:
            chunks.append(self._cut(self._end_beside_secrets(_end_of_lines(self._pending))))
            if self._is_thinned:
                return chunks
        return chunks

    def due_at(self) -> float | None:
        """When what is pending must become a chunk."""
        return self._since + self._pause if self._pending or self._left_out else None

    def take(self, now: float) -> list[Chunk]:
        """What is due by now."""
        due = self.due_at()
        return [] if due is None or now < due else self.finish(now)

    def finish(self, now: float) -> list[Chunk]:
        """What is pending, all of it."""
        chunks = []
        while self._pending or self._left_out:
            chunks.append(self._cut(min(len(self._pending), CHUNK_BYTES)))
        self._since = now
        return chunks

    def begin_iteration(self, iteration: int, now: float) -> list[Chunk]:
        """What comes from now on belongs to that iteration; gives what is left of the one before."""
        chunks = self.finish(now)
        self.iteration, self._stored = iteration, 0
        return chunks

    @property
    def _is_thinned(self) -> bool:
        return self._stored >= ITERATION_BYTES

    @property
    def _pause(self) -> float:
        if not self._is_thinned:
            return CHUNK_SECONDS
        return min(_LONGEST_PAUSE, 2.0 ** min(20, 1 + (self._stored - ITERATION_BYTES) // _DOUBLES_AFTER))

    def _cut(self, count: int) -> Chunk:
        raw = bytes(self._pending[:count])
        del self._pending[:count]
        text, left_out = self._text(raw, is_excerpt=self._left_out > 0)
        chunk = Chunk(self._offset, self._left_out + count, text, self.iteration, self._left_out + left_out)
        self._offset += chunk.size
        self._stored += len(text.encode())
        self._left_out = 0
        return chunk

    def _end_beside_secrets(self, end: int) -> int:
        """``end``, or a place before it where no secret is cut in two: neither half would look like one."""
        first = end
        for _ in range(_MOST_SEAMS):
            around = [bytes(self._pending[end - _SEAM : end]), bytes(self._pending[end : end + _SEAM])]
            if self._redact(plain(b"".join(around))) == "".join([self._redact(plain(half)) for half in around]):
                return end
            blank = max(self._pending.rfind(space, end - _SEAM, end - 1) for space in (b" ", b"\n"))
            end = end - _SEAM if blank < 0 else blank + 1
        return first

    def _text(self, raw: bytes, *, is_excerpt: bool) -> tuple[str, int]:
        """The text without secrets, and how many bytes had no room in it. An excerpt begins anywhere, perhaps within a
        secret: of that no more than its beginning shows that it is one."""
        text = self._redact(plain(self._with_key(raw)))
        encoded = text.encode(errors="replace")
        if is_excerpt:
            surplus = max(0, len(encoded) - _EXCERPT_BYTES)
            return encoded[surplus:].decode(errors="ignore"), surplus
        if len(encoded) <= CHUNK_BYTES:
            return encoded.decode(), 0
        return encoded[:CHUNK_BYTES].decode(errors="ignore"), len(encoded) - CHUNK_BYTES

    def _with_key(self, raw: bytes) -> bytes:
        """A private key may be cut in two: its second half is known only by its first."""
        if self._inside_key:
            raw = self._inside_key + b"\n" + raw
        elif b"-----BEGIN" not in raw:
            return raw
        begins = list(_KEY_BEGINS.finditer(raw))
        ends = list(_KEY_ENDS.finditer(raw))
        is_open = bool(begins) and (not ends or ends[-1].start() < begins[-1].start())
        self._inside_key = begins[-1][0] if is_open and len(raw) < 2 * CHUNK_BYTES else b""
        return raw


def _end_of_lines(pending: bytearray) -> int:
    """Where to cut ``pending``, which fills a chunk: behind a line, or within one that is too long."""
    end = pending.rfind(b"\n", 0, CHUNK_BYTES) + 1
    if end > 0:
        return end
    blank = pending.rfind(b" ", CHUNK_BYTES // 2, CHUNK_BYTES)
    return blank + 1 if blank > 0 else CHUNK_BYTES

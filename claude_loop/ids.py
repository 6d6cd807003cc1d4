"""Identifiers: event ids and cursors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from claude_loop.clock import Clock
from claude_loop.errors import InvalidCursor

CURSOR_PATTERN = r"([0-9a-f]{16})\.(0|[1-9][0-9]{0,17})\.([0-9a-f]{10})"
_CURSOR = re.compile(CURSOR_PATTERN + r"\Z")
# Stands in for "the event at seq 0", so that a cursor exists before the first event does.
NO_EVENT = ""


def new_event_id(clock: Clock) -> str:
    """A ULID: ids made later sort later, which keeps the log's unique index cheap."""
    from ulid import ULID  # noqa: PLC0415 - what only reads cursors makes no ids

    timestamp = (clock.now_us() // 1000).to_bytes(6, "big")
    return str(ULID.from_bytes(timestamp + clock.random_bytes(10)))


def new_epoch(clock: Clock) -> str:
    """The name of one life of a log: 16 hex digits, drawn anew when history may have been lost."""
    return clock.random_bytes(8).hex()


def id_digest(event_id: str) -> str:
    """The part of a cursor that proves which event stood at its ``seq``: 10 hex digits."""
    return blake2b(event_id.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in one log: everything up to and including ``seq`` has been seen.

    ``digest`` is ``id_digest`` of the event at ``seq``: a log restored from a backup and filled
    again has the same epoch and number, but another event there.
    """

    epoch: str
    seq: int
    digest: str

    @classmethod
    def at(cls, epoch: str, seq: int, event_id: str) -> Cursor:
        return cls(epoch, seq, id_digest(event_id))

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises ``InvalidCursor`` for anything this server cannot have made."""
        match = _CURSOR.match(text)
        if match is None:
            shown = text[:60].encode("unicode_escape").decode()
            raise InvalidCursor(f"“{shown}” is not a cursor.", field="from")
        return cls(match[1], int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}.{self.digest}"

"""Reading a daemon's events: on and on across its restarts, or up to where the log ends at the moment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

from claude_loop.cli.terminal import printable
from claude_loop.client import DaemonClient, Message, ServerError
from claude_loop.errors import ClaudeLoopError, DaemonUnreachable
from claude_loop.ids import Cursor

RECONNECT_SECONDS = 0.1
# A restart takes about a second; only a longer absence is worth a word.
PATIENCE_SECONDS = 3.0
Query = dict[str, Any]

_RESETS = {
    "trimmed": "older events were pruned; going on at the oldest one kept",
    "epoch": "the log is a new one; going on at its end",
    "diverged": "the log was replaced by another copy; going on at its end",
    "ahead": "the log ends before what was seen; going on at its end",
}


class Reader(Protocol):
    """Whoever the events are for."""

    def word(self, text: str) -> None:
        """Be told what a person should know about the stream."""

    def shown_until(self) -> str:
        """The time of the last event shown, in words; empty if there was none."""


def stored(client: DaemonClient, query: Query, start: Query, reader: Reader) -> Iterator[str]:
    """The JSON of the events stored at the moment, from ``start`` on. Raises as ``follow`` does."""
    end = Cursor.parse(client.get("/status")["log"]["cursor"])
    yield from follow(client, query, start, reader, end)


def follow(
    client: DaemonClient, query: Query, start: Query, reader: Reader, end: Cursor | None = None
) -> Iterator[str]:
    """The JSON of events for ever, or up to ``end``. After a break the stream goes on behind the last cursor it gave.

    Raises ``DaemonUnreachable`` when there was no daemon to begin with, or it stays away before ``end`` is reached;
    ``ServerError`` when it refuses.
    """
    cursor: str | None = None
    connection = Connection(client, reader)
    while True:
        try:
            for message in client.stream(query | ({} if cursor else start), cursor):
                connection.established(message)
                _tell_reset(message, reader)
                place = Cursor.parse(message.id) if message.id else None
                beyond = end is not None and place is not None and (place.epoch != end.epoch or place.seq > end.seq)
                if message.data and not message.event and not beyond:
                    yield message.data
                if end is not None and place is not None and (beyond or place.seq == end.seq):
                    return
                cursor = message.id or cursor
        except DaemonUnreachable:
            if connection.never_was or (end is not None and connection.lost_for > PATIENCE_SECONDS):
                raise
        except ServerError as refusal:
            if refusal.status < 500 and refusal.status != 429:
                raise  # the caller's mistake stays one however often it is repeated
            connection.refused(refusal)
        connection.lost()


def _tell_reset(message: Message, reader: Reader) -> None:
    if message.event == "reset":
        reason = json.loads(message.data).get("reason")
        reader.word(_RESETS.get(reason, f"reset: {printable(reason, 60)}"))


class Connection:
    """Knows since when there is none, whether it is the same daemon that comes back, and what is said about it."""

    def __init__(self, client: DaemonClient, reader: Reader) -> None:
        self._client = client
        self._reader = reader
        self._daemon: str | None = None
        self._lost_at: float | None = None
        self._told = False
        self._why = "daemon gone; waiting for it (`claude-loop up` starts it)"

    @property
    def never_was(self) -> bool:
        return self._daemon is None

    @property
    def lost_for(self) -> float:
        """Seconds."""
        return 0.0 if self._lost_at is None else time.monotonic() - self._lost_at

    def refused(self, refusal: ServerError) -> None:
        self._why = f"the daemon says: {printable(refusal.message)} Trying again"

    def lost(self) -> None:
        """Wait a moment before the next attempt; after a while, say so."""
        self._lost_at = self._lost_at or time.monotonic()
        if not self._told and self.lost_for > PATIENCE_SECONDS:
            self._reader.word(self._why)
            self._told = True
        time.sleep(RECONNECT_SECONDS)

    def established(self, message: Message) -> None:
        """To be called with each message: the first one after a break shows that the stream goes on."""
        if self._daemon is not None and self._lost_at is None:
            return
        before, self._daemon = self._daemon, self._who()
        self._lost_at, self._told = None, False
        if before is None or message.event == "reset":  # a reset says itself what was missed
            return
        happened = "connection lost" if self._daemon == before else "daemon restarted"
        after = self._reader.shown_until()
        self._reader.word(f"{happened}; resumed{f' after {after}' if after else ''}, nothing missed")

    def _who(self) -> str:
        """Tells one life of a daemon from the next."""
        try:
            status = self._client.get("/status")
        except ClaudeLoopError:
            return ""  # gone again, or too ill to tell: what is said then is that it was restarted
        return f"{status['pid']} {status['started_at']}"

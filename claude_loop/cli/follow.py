"""Reading a daemon's events: what is stored, or on and on across its restarts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from claude_loop.cli.printer import Printer
from claude_loop.cli.terminal import clock_time
from claude_loop.client import DaemonClient, Message, ServerError
from claude_loop.errors import DaemonUnreachable

RECONNECT_SECONDS = 0.1
# A restart takes about a second; only a longer absence is worth a word.
PATIENCE_SECONDS = 3.0
Query = dict[str, Any]


def stored(client: DaemonClient, query: Query, start: dict[str, str], printer: Printer) -> Iterator[str]:
    """The JSON of the events stored at the moment, from ``start`` on."""
    head = client.get("/status")["log"]["head"]
    if head == 0:
        return
    for message in client.stream(query | start):
        if message.event:
            _control(message, printer)
            continue
        seq = _position(message)
        if message.data and (seq is None or seq <= head):
            yield message.data
        if seq is not None and seq >= head:
            return


def _position(message: Message) -> int | None:
    """How far the stream has come. A cursor is opaque to most clients; this one comes with its server."""
    return int(message.id.split(".")[1]) if message.id else None


def follow(client: DaemonClient, query: Query, start: dict[str, str], printer: Printer) -> Iterator[str]:
    """The JSON of events for ever: after each break the stream goes on behind the last cursor it gave.

    Raises ``DaemonUnreachable`` only when there was no daemon to begin with, ``ServerError`` when it refuses.
    """
    cursor: str | None = None
    absence = Absence(printer)
    while True:
        try:
            for message in client.stream(query | ({} if cursor else start), cursor):
                absence.over(message)
                if message.event:
                    _control(message, printer)
                elif message.data:
                    yield message.data
                cursor = message.id or cursor
        except DaemonUnreachable:
            if cursor is None and not absence.began:
                raise
        except ServerError as refusal:
            if refusal.status < 500:
                raise  # the caller's mistake stays one however often it is repeated
        absence.goes_on()


class Absence:
    """The time between a broken stream and the first message of the next one, and what is said about it."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._told = False
        self.began: float | None = None

    def goes_on(self) -> None:
        """Wait a moment before the next attempt; after a while, say so."""
        self.began = self.began or time.monotonic()
        if not self._told and time.monotonic() - self.began > PATIENCE_SECONDS:
            self._printer.word("daemon gone; waiting for it (`claude-loop up` starts it)")
            self._told = True
        time.sleep(RECONNECT_SECONDS)

    def over(self, message: Message) -> None:
        if self.began is None:
            return
        self.began, self._told = None, False
        if message.event != "reset":  # a reset says itself what was missed
            last_at = self._printer.last_at
            after = f" after {clock_time(last_at)}" if last_at else ""
            self._printer.word(f"daemon restarted; resumed{after}, nothing missed")


_RESETS = {
    "trimmed": "older events were pruned; going on at the oldest one kept",
    "epoch": "the log is a new one; going on at its newest event",
    "diverged": "the log was replaced by another copy; going on at its newest event",
    "ahead": "the log is older than what was seen; going on at its newest event",
}


def _control(message: Message, printer: Printer) -> None:
    if message.event == "reset":
        reason = json.loads(message.data).get("reason")
        printer.word(_RESETS.get(reason, f"reset: {reason}"))

"""What became of the events of one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from claude_loop.errors import ClaudeLoopError, TooLarge
from claude_loop.eventlog.base import Appended
from claude_loop.events import Event
from claude_loop.transports.http_json import json_bytes


class AcceptedEvent(TypedDict):
    """``index`` is the event's place in the request. ``duplicate``: it was stored before, with that ``seq``."""

    index: int
    id: str
    seq: int
    duplicate: bool


class RejectedEvent(TypedDict):
    index: int
    code: str
    field: str | None
    message: str
    hint: str


class PublishAnswer(TypedDict):
    accepted: list[AcceptedEvent]
    rejected: list[RejectedEvent]


def one_accepted(event: Event, appended: Appended) -> web.Response:
    """The answer to one event that was stored."""
    accepted = {"index": 0, "id": event.id, "seq": appended.seq, "duplicate": appended.duplicate}
    return json_bytes(b'{"accepted":[' + orjson.dumps(accepted) + b'],"rejected":[]}')


def none_accepted(error: ClaudeLoopError) -> web.Response:
    """The answer to one event that was not."""
    outcome = Outcome()
    outcome.refuse(0, error)
    return outcome.answer()


class Outcome:
    """Collects, slice by slice, what ``POST /api/events`` answers."""

    def __init__(self) -> None:
        self.seen = 0
        self._accepted: list[bytes] = []
        self._rejected: list[dict[str, Any]] = []
        self._first_error: ClaudeLoopError | None = None
        self._all_too_large = True

    def add(self, numbers: Sequence[int], events: Sequence[Event], appended: Sequence[Appended]) -> None:
        """What the log answered for ``events``, which stood at ``numbers`` in the request."""
        stored = []
        for index, event, (seq, duplicate, error) in zip(numbers, events, appended, strict=True):
            if error is None:
                stored.append({"index": index, "id": event.id, "seq": seq, "duplicate": duplicate})
            else:
                self.refuse(index, error)
        if stored:
            self._accepted.append(orjson.dumps(stored)[1:-1])

    def refuse(self, index: int, error: ClaudeLoopError) -> None:
        self._first_error = self._first_error or error
        self._all_too_large = self._all_too_large and isinstance(error, TooLarge)
        self._rejected.append({"index": index, **error.as_dict()} | {"field": error.field})

    def answer(self) -> web.Response:
        """200, or 422 when everything was rejected (413 when all of it was too large); then with an ``error`` too,
        the first one, as every other failure has."""
        body = b'{"accepted":[' + b",".join(self._accepted) + b'],"rejected":' + self._rejections()
        if self._accepted or self._first_error is None:
            return json_bytes(body + b"}")
        error = orjson.dumps(self._first_error.as_dict())
        return json_bytes(body + b',"error":' + error + b"}", 413 if self._all_too_large else 422)

    def _rejections(self) -> bytes:
        return orjson.dumps(sorted(self._rejected, key=lambda entry: entry["index"]))

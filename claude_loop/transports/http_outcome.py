"""What became of the events of one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

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


@dataclass(slots=True)
class Slice:
    """Some consecutive records of a request: those accepted, with their places in it, and those rejected."""

    indexes: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    rejected: list[tuple[int, ClaudeLoopError]] = field(default_factory=list)


def one_accepted(event: Event, appended: Appended) -> web.Response:
    """The answer to one event that was stored."""
    accepted = {"index": 0, "id": event.id, "seq": appended.seq, "duplicate": appended.duplicate}
    return json_bytes(b'{"accepted":[' + orjson.dumps(accepted) + b'],"rejected":[]}')


def none_accepted(error: ClaudeLoopError) -> web.Response:
    """The answer to one event that was not."""
    outcome = Outcome()
    outcome.add(Slice(rejected=[(0, error)]), ())
    return outcome.answer()


class Outcome:
    """Collects, slice by slice, what ``POST /api/events`` answers."""

    def __init__(self) -> None:
        self._accepted: list[bytes] = []
        self._rejected: list[bytes] = []
        self._first_error: ClaudeLoopError | None = None
        self._all_too_large = True

    def add(self, part: Slice, appended: Sequence[Appended]) -> None:
        """The next slice, and what the log answered for its events."""
        stored, rejected = [], part.rejected
        for index, event, (seq, duplicate, error) in zip(part.indexes, part.events, appended, strict=True):
            if error is None:
                stored.append({"index": index, "id": event.id, "seq": seq, "duplicate": duplicate})
            else:
                rejected.append((index, error))
        if stored:
            self._accepted.append(orjson.dumps(stored)[1:-1])
        if rejected:
            self._reject(sorted(rejected, key=itemgetter(0)))

    def _reject(self, rejected: list[tuple[int, ClaudeLoopError]]) -> None:
        self._first_error = self._first_error or rejected[0][1]
        self._all_too_large = self._all_too_large and all(isinstance(error, TooLarge) for _, error in rejected)
        described = [{"index": index, "field": None, **error.as_dict()} for index, error in rejected]
        self._rejected.append(orjson.dumps(described)[1:-1])

    def answer(self) -> web.Response:
        """200, or 422 when everything was rejected (413 when all of it was too large); then with an ``error`` too,
        the first one, as every other failure has."""
        parts = (b'{"accepted":[', b",".join(self._accepted), b'],"rejected":[', b",".join(self._rejected), b"]")
        if self._accepted or self._first_error is None:
            return json_bytes(b"".join((*parts, b"}")))
        error = orjson.dumps(self._first_error.as_dict())
        return json_bytes(b"".join((*parts, b',"error":', error, b"}")), 413 if self._all_too_large else 422)

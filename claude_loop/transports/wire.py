"""How events look on the wire: Socket.IO packets and server-sent events, as bytes that many readers share.

An event's own JSON was made once, by the log; here it is only put between brackets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from claude_loop.errors import ClaudeLoopError
from claude_loop.events import Event
from claude_loop.ids import Cursor
from claude_loop.subscription import Batch

# Socket.IO inside Engine.IO: "4" is a message, "2" an event, "3" the answer to one.
_EVENT = b"42"
_ACK = b"43"


def message(name: str, payload: Any) -> bytes:
    """The Socket.IO event ``name`` with one argument. Raises ``TypeError`` for what is not JSON."""
    return _EVENT + orjson.dumps([name, payload])


def ack(number: int, payload: Any) -> bytes:
    """The answer to the client's packet ``number``. Raises ``TypeError`` for what is not JSON."""
    return _ACK + str(number).encode() + orjson.dumps([payload])


def error_body(error: ClaudeLoopError) -> dict[str, Any]:
    """The answer that says no: ``{"ok": false, "error": {"code", "message", "hint", "field"?}}``."""
    return {"ok": False, "error": error.as_dict()}


def event_message(event: Event) -> bytes:
    """The Socket.IO event ``event`` with the event as its argument."""
    return b'42["event",' + event.json.encode() + b"]"


def events_message(sub: str, prev: Cursor, upto: Cursor, events: Sequence[Event]) -> bytes:
    """The Socket.IO event ``events``: what follows ``prev``, up to and including ``upto``."""
    head = f'42["events",{{"sub":"{sub}","prev":"{prev}","upto":"{upto}","events":['
    return "".join((head, ",".join([event.json for event in events]), "]}]")).encode()


def sse_batch(batch: Batch) -> bytes:
    """One server-sent event for each event of the batch; ``id`` is the cursor to resume after it.

    Without events only the reader's cursor moves: a field without data dispatches nothing.
    """
    shared = batch.encoded.get("sse")
    if shared is None:
        epoch = batch.upto.epoch
        shared = "".join(
            [f"id: {Cursor.at(epoch, event.seq, event.id)}\ndata: {event.json}\n\n" for event in batch.events]
        ).encode()
        if not batch.events or batch.events[-1].seq != batch.upto.seq:
            shared += sse_position(batch.upto)
        batch.encoded["sse"] = shared
    encoded: bytes = shared
    return encoded


def sse_position(cursor: Cursor) -> bytes:
    """Moves the reader's cursor without an event."""
    return f"id: {cursor}\n\n".encode()

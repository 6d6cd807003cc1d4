"""Bytes on the wire."""

from __future__ import annotations

import orjson

from claude_loop.events import Event
from claude_loop.ids import Cursor
from claude_loop.subscription import Batch
from claude_loop.transports import wire

EPOCH = "0123456789abcdef"


def event(seq: int) -> Event:
    return Event("note.made", {"text": "é\n\u2028"}, id=f"e-{seq}", seq=seq)


def at(seq: int) -> Cursor:
    return Cursor.at(EPOCH, seq, f"e-{seq}")


def test_socketio_messages() -> None:
    assert wire.message("bye", {"reconnect_after": 1}) == b'42["bye",{"reconnect_after":1}]'
    assert wire.ack(12, {"ok": True}) == b'4312[{"ok":true}]'
    assert orjson.loads(wire.event_message(event(3))[2:]) == ["event", event(3).as_dict()]
    name, frame = orjson.loads(wire.events_message("s", at(2), at(5), [event(3), event(4)])[2:])
    assert name == "events"
    assert frame == {
        "sub": "s",
        "prev": str(at(2)),
        "upto": str(at(5)),
        "events": [event(3).as_dict(), event(4).as_dict()],
    }


def test_sse_has_a_cursor_for_each_event_and_the_position() -> None:
    batch = Batch(at(2), at(5), [event(3), event(4)])
    text = wire.sse_batch(batch).decode()
    blocks = text.split("\n\n")
    assert blocks[0].startswith(f"id: {at(3)}\ndata: {{")
    assert blocks[1].startswith(f"id: {at(4)}\ndata: {{")
    assert blocks[2:] == [f"id: {at(5)}", ""]
    assert wire.sse_batch(batch) is wire.sse_batch(batch), "encoded once"
    assert wire.sse_batch(Batch(at(2), at(3), [event(3)])).count(b"id: ") == 1
    assert wire.sse_batch(Batch(at(2), at(5), [])) == wire.sse_position(at(5))

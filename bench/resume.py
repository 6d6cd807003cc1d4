"""How long a reader that was away for 100,000 events takes to have them all, by SSE and by Socket.IO.

    python bench/resume.py [--events 100000]

Method. A daemon of its own with its defaults; a reader notes the cursor of its last event and leaves; then so many
events are published as NDJSON and it comes back: `Last-Event-ID` over SSE, `subscribe` with that cursor over Socket.IO
(a bare websocket). The time runs from the connection until the last event has arrived. What was received is parsed
afterwards, and each `seq` checked. The best and the worst of some rounds; the reader runs on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import time
from collections.abc import Callable

import orjson
from aiohttp import ClientSession
from ingest import ndjson
from serving import Served, machine, row, serving

TARGET_SECONDS = 2.0
ROUNDS = 5


def sse(served: Served, cursor: str | None, events: int) -> tuple[float, list[dict], str]:
    """Seconds, the events, and the cursor of the last one. Without a cursor from the start of the log."""
    began = time.perf_counter()
    received = bytearray()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        resumption = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
        path = "/api/events/stream" + ("" if cursor else "?from=start")
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n{resumption}\r\n".encode())
        seen = 0
        while seen < events:
            chunk = connection.recv(1 << 20)
            if not chunk:
                raise SystemExit(f"the stream ended after {seen} events")
            before = max(0, len(received) - 5)
            received += chunk
            seen += received.count(b"\ndata:", before)
        while not received.endswith(b"\n\n") and not received.endswith(b"\n\n\r\n"):
            received += connection.recv(1 << 20)
    seconds = time.perf_counter() - began
    body = b"".join(_unchunked(bytes(received)))
    ids = re.findall(rb"^id: ?(.+)$", body, re.MULTILINE)
    return seconds, [orjson.loads(data) for data in re.findall(rb"^data: ?(.+)$", body, re.MULTILINE)], ids[-1].decode()


def _unchunked(answer: bytes) -> list[bytes]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return [rest]
    parts = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return parts


def socketio(served: Served, cursor: str | None, events: int) -> tuple[float, list[dict], str]:
    return asyncio.run(_socketio(served, cursor, events))


async def _socketio(served: Served, cursor: str | None, events: int) -> tuple[float, list[dict], str]:
    address = f"ws://127.0.0.1:{served.port}/socket.io/?EIO=4&transport=websocket"
    began = time.perf_counter()
    frames: list[str] = []
    seen = 0
    async with ClientSession() as session, session.ws_connect(address, max_msg_size=0) as connection:
        await connection.send_str("40")
        while seen < events:
            text = await connection.receive_str()
            if text.startswith('42["events"'):
                frames.append(text)
                seen += text.count('"seq":')
            elif text.startswith("40"):
                await connection.send_str("420" + json.dumps(["subscribe", {"from": cursor or "start"}]))
            elif text == "2":
                await connection.send_str("3")
        seconds = time.perf_counter() - began
    batches = [orjson.loads(frame[2:])[1] for frame in frames]
    return seconds, [event for batch in batches for event in batch["events"]], batches[-1]["upto"]


def resume(served: Served, reader: Callable[..., tuple[float, list[dict], str]], cursor: str, events: int) -> float:
    cpu = served.cpu_seconds()
    seconds, received, _ = reader(served, cursor, events)
    first = int(cursor.split(".")[1]) + 1
    if [event["seq"] for event in received] != list(range(first, first + events)):
        raise SystemExit(f"not the {events} events after {cursor}")
    print(f"  {reader.__name__:10} {seconds:5.2f} s, of which the daemon computed {served.cpu_seconds() - cpu:.2f} s")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    count = parser.parse_args().events
    print(f"resume: {machine()}\n")
    with serving() as served:
        ndjson(served, 5_000)
        cursors = {reader: reader(served, None, 5_000)[2] for reader in (sse, socketio)}
        ndjson(served, count)
        times = {reader: [resume(served, reader, cursors[reader], count) for _ in range(ROUNDS)] for reader in cursors}
        for reader, seconds in times.items():
            best, worst = min(seconds), max(seconds)
            name = f"{count:,} events missed, resumed by {'SSE' if reader is sse else 'Socket.IO'}"
            row(name, f"{best:.2f} to {worst:.2f} s", f"≤ {TARGET_SECONDS:.0f} s", reached=best <= TARGET_SECONDS)


if __name__ == "__main__":
    main()

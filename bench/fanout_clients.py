"""The clients of the fan-out, many in one process: bare websockets that count instead of parsing."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time

from fanout_servers import say, stdin_lines

PATHS = {"nchan": "/subscribe"}


class Client(asyncio.BufferedProtocol):
    """Counts the events of one connection. ``times``: also collect how old each was."""

    def __init__(self, mode: str, buffer_bytes: int, *, parse: bool, times: bool) -> None:
        self.mode, self.parse, self.times = mode, parse, times
        self.events = self.frames = self.bytes = self.last_ns = 0
        self.seq = -1
        self.ages: list[float] = []
        self.ready = asyncio.get_running_loop().create_future()
        self._buffer = bytearray(buffer_bytes)
        self._filled = 0
        self._in_http = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(upgrade_request(transport.get_extra_info("peername")[1], self.mode))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed"))

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, size: int) -> None:
        self._filled += size
        self.bytes += size
        buffer, at, end = self._buffer, 0, self._filled
        if self._in_http:
            head = buffer.find(b"\r\n\r\n", 0, end)
            if head < 0:
                return
            self._in_http, at = False, head + 4
            if self.mode == "nchan":
                self.ready.set_result(None)
        while end - at >= 2:
            length, body = buffer[at + 1], at + 2
            if length == 126:
                length, body = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, body = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if body + length > end:
                break
            self._message(memoryview(buffer)[body : body + length])
            at = body + length
        if at:
            buffer[: end - at] = buffer[at:end]
            self._filled = end - at

    def send(self, text: str) -> None:
        body = text.encode()
        self.transport.write(bytes([0x81, 0x80 | len(body)]) + bytes(4) + body)

    def _message(self, body: memoryview) -> None:
        head = bytes(body[:220])
        if self.mode == "nchan":
            self.last_ns = time.monotonic_ns()
            self.frames += 1
            self.events += 1
            return
        if head.startswith(b'42["events"'):
            self.last_ns = time.monotonic_ns()
            self._frame(head, body)
        elif head.startswith(b'42["event"'):
            self.last_ns = time.monotonic_ns()
            self.frames += 1
            self.events += 1
        elif head == b"2":
            self.send("3")
        elif head.startswith(b"0"):
            self.send("40")
        elif head.startswith(b"40"):
            if self.mode == "subscribe":
                self.send('420["subscribe",{"from":"now"}]')
            else:
                self.ready.set_result(None)
        elif head.startswith(b"430"):
            self.seq = int(re.search(rb'"cursor":"[0-9a-f]+\.(\d+)\.', head)[1])
            self.ready.set_result(None)

    def _frame(self, head: bytes, body: memoryview) -> None:
        prev, upto = map(int, _POSITIONS.search(head).groups())
        if prev != self.seq:
            raise SystemExit(f"a gap: {prev} after {self.seq}")
        self.frames += 1
        self.events += upto - prev
        self.seq = upto
        if self.parse:
            import orjson

            seqs = [event["seq"] for event in orjson.loads(body[2:])[1]["events"]]
            if seqs != list(range(prev + 1, upto + 1)):
                raise SystemExit(f"frame {prev}..{upto} holds {seqs}")
        if self.times:
            self.ages += [(self.last_ns - int(t)) / 1e6 for t in _TIMES.findall(body)]


_POSITIONS = re.compile(rb'"prev":"[0-9a-f]+\.(\d+)\.[0-9a-f]+","upto":"[0-9a-f]+\.(\d+)\.')
_TIMES = re.compile(rb'"t":(\d+)')


async def run_clients(port: int, count: int, mode: str) -> None:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    buffer_bytes = 1 << (19 if count <= 200 else 17)  # a frame is smaller
    for n in range(count):
        client = Client(mode, buffer_bytes, parse=n == 0, times=n % 11 == 0)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
        await client.ready
        clients.append(client)
    say({"connected": len(clients)})
    lines = await stdin_lines()
    stalled: list[socket.socket] = []
    while True:
        request = json.loads(await lines.readline() or b'{"do": "stop"}')
        if request["do"] == "stop":
            return
        if request["do"] == "stall":
            stalled += [await stalling_client(port) for _ in range(request["count"])]
            say({"stalled": len(stalled)})
        elif request["do"] == "unstall":
            for each in stalled:
                each.close()
            stalled.clear()
            say({"stalled": 0})
        else:  # wait for so many events at each client since the last time
            while min(client.events for client in clients) < request["events"]:
                await asyncio.sleep(0.002)
            ages = sorted(age for client in clients for age in client.ages)
            say(
                {
                    "ended": max(client.last_ns for client in clients),
                    "events": sum(client.events for client in clients),
                    "frames": sum(client.frames for client in clients),
                    "bytes": sum(client.bytes for client in clients),
                    "p50": ages[len(ages) // 2] if ages else None,
                    "p99": ages[len(ages) * 99 // 100] if ages else None,
                }
            )
            for client in clients:
                client.events = client.frames = client.bytes = 0
                client.ages = []


def upgrade_request(port: int, mode: str = "subscribe") -> bytes:
    path = PATHS.get(mode, "/socket.io/?EIO=4&transport=websocket")
    head = (
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    return "\r\n".join((*head, "", "")).encode()


async def stalling_client(port: int) -> socket.socket:
    """Subscribes to everything there is and never reads again."""
    loop = asyncio.get_running_loop()
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setblocking(False)
    await loop.sock_sendall(raw, upgrade_request(port))
    for text in ("40", '420["subscribe",{"from":"start"}]'):
        await asyncio.sleep(0.1)
        await loop.sock_sendall(raw, bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode())
    return raw

"""Fan-out of committed events to Socket.IO clients, against plain `sio.emit`, and what stalled clients cost.

    python bench/fanout.py [--clients 100] [--events 100000] [--rounds 3] [--quick] [--only throughput|stalled]

Method. The server, the plain server and the clients are processes of their own on one machine. The clients are
bare websockets on uvloop that count instead of parsing: a frame of `subscribe` counts `upto` minus `prev`, after
checking that `prev` is where the client stands; a plain message counts one. The first client parses every frame
with orjson and checks each `seq`; every eleventh reads the times in its frames for the latency. All clocks are
CLOCK_MONOTONIC, which processes share. A delivery is one event at one client.

Throughput: the whole server commits events (SQLite, synchronous=FULL, with the read model) as fast as its readers
follow; they pass the hub, not the intake. The time runs from the first append to the last byte at the last client.
Plain: python-socketio's defaults, `await sio.emit("event", event)` for each event, no log; the same event.

Stalled: at a steady rate, rounds with and without two clients that subscribe and never read again, alternating; they
are not cut off (write timeout 600 s), so that they weigh all the time. Memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

DATA = {
    "story_id": "US-001",
    "passed": 12,
    "failed": 0,
    "total": 12,
    "duration_ms": 1843,
    "command": "python -m unittest -q",
}


# --- the servers


def make_events(count: int) -> list[Any]:
    """``count`` events as intake hands them to the log, stamped with the time."""
    from claude_loop.clock import SystemClock
    from claude_loop.events import Event
    from claude_loop.ids import new_event_id

    clock, stamp = SystemClock(), time.monotonic_ns()
    at = clock.now_us() // 1000
    ids = {"project": "shop", "prd_id": "PRD-001", "story_id": "US-001", "source": "bench"}
    return [Event("test.run", {**DATA, "t": stamp}, id=new_event_id(clock), at=at, **ids) for _ in range(count)]


async def serve_ours() -> None:
    from claude_loop.paths import Home
    from claude_loop.websocket_server import ClaudeLoopWebSocketServer

    folder = tempfile.TemporaryDirectory(prefix="fanout-")
    server = ClaudeLoopWebSocketServer(port=0, home=Home(Path(folder.name) / "home"))
    await server.start()
    hub, transport = server.hub, server._socketio  # noqa: SLF001 - its statistics pace the publisher
    transport._server.eio.write_timeout = 600  # noqa: SLF001 - stalled clients are to weigh all the time

    prepared: list[Any] = []

    async def prepare(total: int) -> None:
        prepared.extend(make_events(total))

    async def flat_out(total: int) -> dict[str, Any]:
        step, ahead = 512, 8192
        commits = []
        for start in range(0, total, step):
            began = time.perf_counter()
            await hub.publish(prepared[start : start + step])
            commits.append((time.perf_counter() - began) * 1000)
            while max(each["lag"] for each in transport.statistics()["readers"]) > ahead:
                await asyncio.sleep(0.01)
        prepared.clear()
        commits.sort()
        return {"commit_p50": commits[len(commits) // 2], "commit_p99": commits[len(commits) * 99 // 100]}

    async def steady(total: int, rate: float) -> None:
        due = asyncio.get_running_loop().time()
        for _ in range(total):
            due += 1 / rate
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            hub.submit(make_events(1))

    await obey(server.port, {"prepare": prepare, "flat_out": flat_out, "steady": steady})
    await server.stop()
    folder.cleanup()


async def serve_plain() -> None:
    import socketio
    from aiohttp import web

    sio = socketio.AsyncServer(async_mode="aiohttp")
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def flat_out(total: int) -> None:
        for seq in range(1, total + 1):
            await sio.emit(
                "event",
                {
                    "seq": seq,
                    "id": "01KAB0000000000000000000AA",
                    "type": "test.run",
                    "project": "shop",
                    "prd_id": "PRD-001",
                    "story_id": "US-001",
                    "run_id": None,
                    "session_id": None,
                    "source": "bench",
                    "timestamp": "2026-01-26T12:00:00.000Z",
                    "received_at": "2026-01-26T12:00:00.000Z",
                    "data": {**DATA, "t": time.monotonic_ns()},
                },
            )

    async def prepare(total: int) -> None:
        """Nothing: the events are made as they go."""

    await obey(runner.addresses[0][1], {"prepare": prepare, "flat_out": flat_out})
    os._exit(0)  # its stalled tasks are not what is measured


async def obey(port: int, commands: dict[str, Any]) -> None:
    """Say where the server is, then run what the parent asks for, one line each."""
    say({"port": port, "pid": os.getpid()})
    lines = await stdin_lines()
    while True:
        request = json.loads(await lines.readline() or b'{"do": "stop"}')
        if request["do"] == "stop":
            return
        if request["do"] == "cpu":
            say({"cpu": time.process_time(), "resident": resident(os.getpid())})
            continue
        began = time.monotonic_ns()
        result = await commands[request["do"]](*request["with"])
        say({"began": began, "resident": resident(os.getpid()), **(result or {})})


# --- the clients


class Client(asyncio.BufferedProtocol):
    """Counts the events of one connection. ``times``: also collect how old each was."""

    def __init__(self, mode: str, *, parse: bool, times: bool) -> None:
        self.mode, self.parse, self.times = mode, parse, times
        self.events = self.frames = self.bytes = self.last_ns = 0
        self.seq = -1
        self.ages: list[float] = []
        self.ready = asyncio.get_running_loop().create_future()
        self._buffer = bytearray(1 << 19)
        self._filled = 0
        self._in_http = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(upgrade_request(transport.get_extra_info("peername")[1]))

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
    for n in range(count):
        client = Client(mode, parse=n == 0, times=n % 11 == 0)
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


def upgrade_request(port: int) -> bytes:
    head = (
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
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


# --- the parent


class Child:
    """One of the processes above, spoken to in lines of JSON."""

    def __init__(self, role: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--role", role, "--options", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hello = self.hear()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a child ended: {self.process.wait()}")
        return json.loads(line)

    def tell(self, do: str, **request: Any) -> None:
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.tell(do, **request)
        return self.hear()

    def stop(self) -> None:
        self.tell("stop")
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def throughput(role: str, mode: str, clients: int, events: int) -> float:
    server = Child(role)
    readers = Child("clients", port=server.hello["port"], count=clients, mode=mode)
    server.ask("prepare", **{"with": [events]})
    cpu = server.ask("cpu")["cpu"]
    began = server.ask("flat_out", **{"with": [events]})
    result = readers.ask("wait", events=events)
    after = server.ask("cpu")
    seconds = (result["ended"] - began["began"]) / 1e9
    rate = result["events"] / seconds
    print(
        f"{role:8} {events:>8,} events to {clients} clients: {seconds:6.2f} s  {rate:>12,.0f} deliveries/s  "
        f"{result['events'] / result['frames']:6.1f} events a frame  {result['bytes'] / seconds / 1e6:6.0f} MB/s  "
        f"server {after['resident'] / 1e6:.0f} MB, {result['events'] / (after['cpu'] - cpu):,.0f} a CPU second"
    )
    if "commit_p99" in began:
        print(
            f"         commits meanwhile: p50 {began['commit_p50']:.1f} ms, p99 {began['commit_p99']:.1f} ms (to reach: 100)"
        )
    readers.stop()
    server.stop()
    return rate


def stalled(clients: int, rate: int, seconds: float, rounds: int) -> None:
    server = Child("ours")
    readers = Child("clients", port=server.hello["port"], count=clients, mode="subscribe")
    pid, events = server.hello["pid"], int(rate * seconds)

    def one_round() -> tuple[float, float, float]:
        before = resident(pid)
        server.ask("steady", **{"with": [events, rate]})
        result = readers.ask("wait", events=events)
        return result["p50"], result["p99"], (resident(pid) - before) / 1e6

    server.ask("prepare", **{"with": [20_000]})
    server.ask("flat_out", **{"with": [20_000]})  # history for the stalled ones, and a warm server
    readers.ask("wait", events=20_000)
    rounds_without: list[tuple[float, float, float]] = []
    rounds_with: list[tuple[float, float, float]] = []
    for number in range(rounds + 1):
        for results, count in ((rounds_without, 0), (rounds_with, 2)):
            readers.ask("stall", count=count)
            result = one_round()
            readers.ask("unstall")
            if number:  # in the first, the log opens what reading history needs
                results.append(result)
    for name, results in (("without", rounds_without), ("with 2 stalled", rounds_with)):
        p50, p99, grown = (statistics.median(each) for each in zip(*results, strict=True))
        of_each = ", ".join(f"{p99:.1f}" for _, p99, _ in results)
        print(f"{name:15} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms ({of_each})  resident set {grown:+.1f} MB a round")
    change = statistics.median(each[1] for each in rounds_with) / statistics.median(each[1] for each in rounds_without)
    print(f"p99 changes by {change - 1:+.1%} (to reach: under 20%); memory: under 5 MB")
    readers.stop()
    server.stop()


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def stdin_lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--plain-events", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--only", choices=["throughput", "stalled"])
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--options", default="{}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        import uvloop

        roles = {"ours": serve_ours, "plain": serve_plain, "clients": run_clients}
        uvloop.run(roles[args.role](**json.loads(args.options)))
        return
    scale = 10 if args.quick else 1
    print(__doc__[__doc__.index("Method.") :].rstrip(), end="\n\n")
    print(f"{os.cpu_count()} cores, {cpu_name()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    if args.only != "stalled":
        ratios, rates = [], []
        for _ in range(args.rounds):
            plain = throughput("plain", "plain", args.clients, args.plain_events // scale)
            ours = throughput("ours", "subscribe", args.clients, args.events // scale)
            rates.append(ours)
            ratios.append(ours / plain)
        print(
            f"median {statistics.median(rates):,.0f} deliveries/s (to reach: 500,000), "
            f"{statistics.median(ratios):.1f} times plain (to reach: 15)"
        )
    if args.only != "throughput":
        stalled(args.clients, rate=500, seconds=4 / scale, rounds=args.rounds + 2)


if __name__ == "__main__":
    main()

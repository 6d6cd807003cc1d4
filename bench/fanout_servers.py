"""The servers of the fan-out: ours, python-socketio's plain `emit`, nginx with nchan. Each is a process of its own that
is spoken to in lines of JSON; `peers/server.mjs` is the same under Node."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parent / "peers"
DATA = {
    "story_id": "US-001",
    "passed": 12,
    "failed": 0,
    "total": 12,
    "duration_ms": 1843,
    "command": "python -m unittest -q",
}


def make_events(stamps: Sequence[int]) -> list[Any]:
    """Events as intake hands them to the log, each with its stamp."""
    from claude_loop.clock import SystemClock
    from claude_loop.events import Event
    from claude_loop.ids import new_event_id

    clock = SystemClock()
    at = clock.now_us() // 1000
    ids = {"project": "shop", "prd_id": "PRD-001", "story_id": "US-001", "source": "bench"}
    return [Event("test.run", {**DATA, "t": stamp}, id=new_event_id(clock), at=at, **ids) for stamp in stamps]


def finished_event(seq: int) -> dict[str, Any]:
    """The same as readers get it, for servers that keep no log."""
    return {
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
    }


async def serve_ours() -> None:
    from claude_loop.heap import settle
    from claude_loop.paths import Home
    from claude_loop.transports.http_body import SLICE_RECORDS
    from claude_loop.websocket_server import ClaudeLoopWebSocketServer

    folder = tempfile.TemporaryDirectory(prefix="fanout-")
    server = ClaudeLoopWebSocketServer(port=0, home=Home(Path(folder.name) / "home"))
    await server.start()
    settle()  # as the daemon does
    hub, transport = server.hub, server._socketio  # noqa: SLF001 - its statistics pace the publisher
    transport._server.eio.write_timeout = 600  # noqa: SLF001 - stalled clients are to weigh all the time
    prepared: list[Any] = []

    async def prepare(total: int) -> None:
        prepared.extend(make_events([time.monotonic_ns()] * total))

    async def flat_out(total: int) -> dict[str, Any]:
        step, ahead = SLICE_RECORDS, 8192
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
        # As the reader of the spool: what has come since it last looked is one append. Each event bears the time at
        # which it was due, so that whoever keeps it waiting is counted.
        began, done = time.monotonic_ns(), 0
        while done < total:
            due = min(total, int((time.monotonic_ns() - began) * rate / 1e9))
            if due > done:
                hub.submit(make_events([began + int(n * 1e9 / rate) for n in range(done + 1, due + 1)]))
                done = due
            await asyncio.sleep(0.001)

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
            await sio.emit("event", finished_event(seq))

    await obey(runner.addresses[0][1], {"prepare": nothing, "flat_out": flat_out})
    os._exit(0)  # its stalled tasks are not what is measured


async def serve_nchan() -> None:
    """nginx in a folder of its own. The publisher is this process: 16 POSTs on their way at a time, on one connection."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fanout-") as folder:
        configuration = (PEERS / "nchan.conf").read_text().replace("PORT", str(port))
        configuration = configuration.replace("MODULES", modules_of_nginx())
        Path(folder, "nginx.conf").write_text(configuration)
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", "nginx.conf", "-e", "stderr"], stdout=sys.stderr)
        try:
            await until_open(port)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def flat_out(total: int) -> None:
                for start in range(1, total + 1, 16):
                    bodies = [json.dumps(finished_event(seq)) for seq in range(start, min(start + 16, total + 1))]
                    for body in bodies:
                        head = f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                        writer.write((head + body).encode())
                    for _ in bodies:
                        await _answer(reader)

            await obey(port, {"prepare": nothing, "flat_out": flat_out}, nginx.pid)
        finally:
            nginx.kill()  # asked to end, nchan's nginx frees something twice and says so
            nginx.wait()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 201", b"HTTP/1.1 202")):
        raise SystemExit(f"nchan said {head!r}")
    await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))


def modules_of_nginx() -> str:
    """Where this machine's nginx keeps its modules, by its own word."""
    said = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"--modules-path=(\S+)", said)
    return found[1] if found else "modules"


async def until_open(port: int) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise SystemExit("nginx did not start")


async def nothing(total: int) -> None:
    """The events are made as they go."""
    del total


async def obey(port: int, commands: dict[str, Any], pid: int | None = None) -> None:
    """Say where the server is, then run what the parent asks for, one line each. ``pid``: of the server, if not this."""
    say({"port": port, "pid": pid or os.getpid()})
    lines = await stdin_lines()
    while True:
        request = json.loads(await lines.readline() or b'{"do": "stop"}')
        if request["do"] == "stop":
            return
        began = time.monotonic_ns()
        result = await commands[request["do"]](*request["with"]) if request["do"] in commands else None
        say({"began": began, "cpu": cpu_of(pid), "resident": resident(pid or os.getpid()), **(result or {})})


def cpu_of(pid: int | None) -> float:
    """Seconds of processor time."""
    if pid is None:
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def stdin_lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader

"""Clients that stall, that dribble, that are half gone, and that all come back at once."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import aiohttp
import orjson

from tests.prove import oracle
from tests.prove.load import judge
from tests.prove.oracle import Violation
from tests.prove.publishers import HttpPublisher
from tests.prove.readers import Reader, SocketIOReader, SseReader
from tests.prove.stored import read_log
from tests.prove.world import DaemonUnderTest, World, get_json
from tests.support import eventually
from tests.unit.transports.socketio_rig import Clients

_STALLED = ('["subscribe",{"from":"start"}]', '["subscribe_prd",{"prd_id":"SLOW","history":1000}]')
# A PRD with one event: the daemon lists the readers that name it, each with how far it has been given what there is.
_UNREAD = '["subscribe_prd",{"prd_id":"UNREAD"}]'
_GROWTH_MB = 20.0
_TEXT = 2000
# What the kernel takes for a client that reads nothing (its buffers, and some 4 MB on this side), and one round more.
_TAKEN_MB = 8.0
# The product's own bound of packets that wait for one client.
_QUEUED = 1024


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def slow(world: World) -> None:
    """Stalled, half-open and byte-at-a-time clients cost no memory, and nobody else a moment or an event."""
    # Our own dribbling is slow on a busy machine; it is not to be cut off for that.
    daemon = world.daemon(environ={"CLAUDE_LOOP_LIMITS__HANDSHAKE_SECONDS": "60"})
    await asyncio.to_thread(daemon.start)
    readers: list[Reader] = [SseReader(), SocketIOReader()]
    for one in readers:
        world.tasks.spawn(one.run(daemon.url), one.transcript.name)
    async with aiohttp.ClientSession() as http, Clients(daemon) as clients:  # type: ignore[arg-type]
        # First the ring, the log's caches and the allocator reach their size: reading history costs memory once.
        async with http.post(f"{daemon.url}/api/events", json={"type": "note.made", "prd_id": "UNREAD"}) as answer:
            assert answer.status == 200, await answer.text()
        await _publish(http, daemon, 5)
        await _at_head(daemon, readers)
        early = SseReader("early")
        warming = world.tasks.spawn(early.run(daemon.url), "early")
        await _at_head(daemon, [early])
        warming.cancel()
        alone = await _latencies(http, daemon, readers[0], world.pick(20, 200))
        before = resident_mb(daemon.pid)
        for number in range(world.pick(8, 40)):
            await clients.stalled("40", "420" + _STALLED[number % 4 == 3], "421" + _UNREAD)
            await _stalled_stream(world, daemon)
            await _half_open(world, daemon)
        dribbling = [world.tasks.spawn(_dribble(daemon), f"dribble {n}") for n in range(4)]
        await _publish(http, daemon, 4)
        beside = await _latencies(http, daemon, readers[0], world.pick(20, 200))
        await _at_head(daemon, readers)
        await _nothing_piles_up(world, daemon)
        grown = resident_mb(daemon.pid) - before
        if grown > _GROWTH_MB:
            raise Violation(f"{grown:.1f} MB for clients that do not read")
        if beside > max(10 * alone, 0.5):
            raise Violation(f"an event took {beside:.3f} s beside slow clients, {alone:.3f} s without them")
        for task in dribbling:
            if await asyncio.wait_for(task, 30) != 200:
                raise Violation("a request that came byte by byte was not answered")
    assert daemon.stop() == 0
    judge(world, await read_log(daemon.home.database), {}, readers)
    world.count(grown_kb=round(1000 * grown), slow_ms=round(1000 * beside), alone_ms=round(1000 * alone))


async def _nothing_piles_up(world: World, daemon: DaemonUnderTest) -> None:
    """Of what there is the daemon hands a client that does not read as much as the kernel takes, whatever time it has.

    How long it would need for more depends on the machine. So another reader, of the same kind and begun later, is
    given everything meanwhile; then those that do not read have been given all that they ever will be.
    """
    witness = SocketIOReader("witness")
    reading = world.tasks.spawn(witness.run(daemon.url), "witness")
    unread: list[dict] = []

    async def given_no_more() -> bool:
        before = [(one["sid"], one["lag"]) for one in unread]
        answer = await get_json(f"{daemon.url}/api/executions/UNREAD/debug")
        head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
        unread[:] = sorted(answer["readers"], key=lambda one: one["sid"])
        for one in unread:
            _insist_bounded(one, head)
        return witness.transcript.head >= head and before == [(one["sid"], one["lag"]) for one in unread]

    await eventually(given_no_more, 60, "the witness at the end, and no change for those that do not read")
    reading.cancel()


def _insist_bounded(reader: dict, head: int) -> None:
    if reader["queued"] > _QUEUED:
        raise Violation(f"{reader['queued']} packets wait for a client that does not read")
    given = (head - reader["lag"]) * _TEXT / 1e6
    if reader["sub"] is not None and given > _TAKEN_MB:  # one of `subscribe_prd` begins its live events near the end
        raise Violation(f"{given:.1f} MB were handed to a client that does not read")


async def _publish(http: aiohttp.ClientSession, daemon: DaemonUnderTest, thousands: int) -> None:
    line = orjson.dumps({"type": "note.made", "prd_id": "SLOW", "data": {"text": "x" * _TEXT}}) + b"\n"
    kind = {"Content-Type": "application/x-ndjson"}
    for _ in range(thousands):
        async with http.post(f"{daemon.url}/api/events", data=line * 1000, headers=kind) as answer:
            assert answer.status == 200, await answer.text()


async def _at_head(daemon: DaemonUnderTest, readers: list[Reader], seconds: float = 30.0) -> None:
    head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
    for one in readers:
        await eventually(lambda one=one: one.transcript.head >= head, seconds, f"{one.transcript.name} at {head}")


async def _latencies(http: aiohttp.ClientSession, daemon: DaemonUnderTest, reader: Reader, times: int) -> float:
    """The median time from before an event is sent until a reader has it."""
    took = []
    for number in range(times):
        started = time.monotonic()
        event = {"type": "note.made", "prd_id": "SLOW", "data": {"n": number}}
        async with http.post(f"{daemon.url}/api/events", json=event) as answer:
            seq = (await answer.json())["accepted"][0]["seq"]
        await eventually(lambda seq=seq: reader.transcript.head >= seq, 20, f"seq {seq}")
        took.append(time.monotonic() - started)
    return sorted(took)[len(took) // 2]


async def _connect(world: World, daemon: DaemonUnderTest, sent: bytes) -> None:
    """Send, and never read."""
    _, writer = await asyncio.open_connection("127.0.0.1", daemon.port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    world.at_end(writer.transport.abort)
    writer.write(sent)
    await writer.drain()


async def _stalled_stream(world: World, daemon: DaemonUnderTest) -> None:
    head = f"GET /api/events/stream?from=start HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n\r\n"
    await _connect(world, daemon, head.encode())


async def _half_open(world: World, daemon: DaemonUnderTest) -> None:
    """The head of a request, the begin of its body, and then nothing more."""
    head = f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nContent-Length: 1000\r\n"
    kind = "Content-Type: application/json\r\n\r\n"
    await _connect(world, daemon, f'{head}{kind}{{"type": "half'.encode())


async def _dribble(daemon: DaemonUnderTest) -> int:
    """A request byte by byte, and its answer read likewise; the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    body = b'{"type": "note.made", "prd_id": "SLOW"}'
    head = f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\nContent-Length: {len(body)}\r\n"
    for byte in f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode() + body:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.01)
    answer = b""
    while byte_read := await reader.read(1):
        answer += byte_read
    writer.close()
    return int(answer.split()[1])


async def crowd(world: World) -> None:
    """Many readers reconnect at once, again and again: the daemon is killed, and each resumes where it was."""
    daemon = world.daemon(environ={"CLAUDE_LOOP_LIMITS__CONNECTIONS": "4000"})
    await asyncio.to_thread(daemon.start)
    half = world.pick(20, 500)
    readers: list[Reader] = [SseReader(f"sse-{n}") for n in range(half)]
    readers += [SocketIOReader(f"socketio-{n}") for n in range(half)]
    for one in readers:
        world.tasks.spawn(one.run(daemon.url), one.transcript.name)
    publisher = HttpPublisher("http", world.dice)
    publisher.pause = 0.2
    publishing = world.tasks.spawn(publisher.run(daemon.url), "publisher")
    for _ in range(world.pick(2, 5)):
        await _at_head(daemon, readers, world.pick(30, 300))
        await asyncio.to_thread(daemon.kill)
        await asyncio.to_thread(daemon.start)
        seen = len(publisher.acknowledged)
        await eventually(lambda seen=seen: len(publisher.acknowledged) > seen, world.pick(30, 300), "acknowledgements")
    publisher.stopping = True
    await publishing
    await _at_head(daemon, readers, world.pick(30, 300))
    clients = (await get_json(f"{daemon.url}/status"))["clients"]
    assert daemon.stop() == 0
    stored = await read_log(daemon.home.database)
    judge(world, stored, publisher.acknowledged, readers)
    for one in readers:
        oracle.complete(one.transcript, max(publisher.acknowledged.values()))
        if one.transcript.resets:
            raise Violation(f"{one.transcript.name} was reset without a reason: {one.transcript.resets}")
    world.count(readers=len(readers), connected=clients, reconnections=sum(one.resumed for one in readers))

"""Hostile input over every way in: no answer is a failure of ours, nothing grows, and good clients see no difference."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import aiohttp

from claude_loop.search.service import LOOK_SECONDS
from tests.prove import heap
from tests.prove.heap import Heap
from tests.prove.hostile import Hostile
from tests.prove.load import judge
from tests.prove.oracle import Violation
from tests.prove.readers import one_of_each
from tests.prove.scenarios.clients import resident_mb
from tests.prove.stored import read_log
from tests.prove.world import DaemonUnderTest, Skipped, World, get_json
from tests.requirements import missing
from tests.support import eventually

Input = TypeVar("Input")

# Before the ring and the caches are full, growing is what they are for.
_ENOUGH = 100_000
_CACHES_MB = 100.0
_GROWTH_MB = 8.0
_OBJECTS_AN_INPUT = 0.5
# A quiet search index gives its memory back; until then it is in use or not as chance will have it.
_SETTLING_SECONDS = LOOK_SECONDS + 3.0
# A query costs the daemon as much as twenty lines: of a million inputs most are lines.
_SHARES = {"posted": 0.5, "spooled": 0.27, "queries": 0.04, "packets": 0.16, "garbage": 0.03}
# How many go before the next look at how far all have come: of lines a body or some files, of others some for each hand.
_PARTS = {"posted": 200, "spooled": 1_000, "queries": 100, "packets": 160, "garbage": 40}
_FILE_LINES = 200
_PACKETS = 40
_HANDS = 4


async def fuzz(world: World) -> None:
    """Hostile events, spool lines, hooks, queries, cursors, filters, Socket.IO packets and Engine.IO garbage."""
    wanted = world.inputs or world.pick(3_000, 300_000)
    if wanted >= _ENOUGH and (reason := missing("mallinfo2")):
        raise Skipped(reason)
    heap_file = world.folder / "heap.json"
    environ = {"CLAUDE_LOOP_RETENTION__EVENTS": "3000"}
    daemon = world.daemon(quick=True, environ=environ, heap_file=str(heap_file))
    await asyncio.to_thread(daemon.start)
    readers = one_of_each()
    for one in readers:
        world.tasks.spawn(one.run(daemon.url), one.transcript.name)
    async with aiohttp.ClientSession() as http:
        attack = Attack(world, daemon, http, await get_json(f"{daemon.url}/api/openapi.json"))
        # The caches and the ring first reach their size.
        await attack.send(wanted // 2)
        resident = resident_mb(daemon.pid)
        before = await _lives(daemon, heap_file) if wanted >= _ENOUGH else None
        await attack.send(wanted - wanted // 2)
        await _settled(daemon)
        grown = None if before is None else (await _lives(daemon, heap_file)).since(before)
        grown_mb = resident_mb(daemon.pid) - resident
        health = await get_json(f"{daemon.url}/health")
        if health["status"] != "healthy":
            raise Violation(f"the daemon is unhealthy: {health}")
        head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
        for one in readers:
            await eventually(lambda one=one: one.transcript.head >= head, 60, f"{one.transcript.name} at {head}")
    assert daemon.stop() == 0
    said = [line for line in daemon.log.read_text(errors="replace").splitlines() if _is_failure(line)]
    if said:
        raise Violation(f"{len(said)} failures in the daemon's log, {said[0][:600]} … {said[-1][:600]}")
    if grown is None and grown_mb > _CACHES_MB:
        raise Violation(f"{grown_mb:.1f} MB more after the second half")
    if grown is not None and (grown.mb > _GROWTH_MB or grown.objects > _OBJECTS_AN_INPUT * (wanted - wanted // 2)):
        raise Violation(f"{grown.mb:.1f} MB and {grown.objects} objects more live after the second half")
    judge(world, await read_log(daemon.home.database), {}, readers)
    world.count(inputs=attack.inputs, refused=attack.refused, **attack.sent, **attack.made)
    world.count(mb=round(resident + grown_mb))
    if grown is not None:
        world.count(live_kb=round(1000 * grown.mb), live_objects=grown.objects)


def _is_failure(line: str) -> bool:
    if "(further occurrences of this error will be logged" in line:
        return False  # what Engine.IO says of its clients
    return "level=error" in line or "level=critical" in line or line.startswith("Traceback")


async def _lives(daemon: DaemonUnderTest, heap_file: Path) -> Heap:
    await _settled(daemon)
    await asyncio.sleep(_SETTLING_SECONDS)
    return await heap.ask(daemon.pid, heap_file)


async def _settled(daemon: DaemonUnderTest) -> None:
    async def read() -> bool:
        return bool((await get_json(f"{daemon.url}/status"))["spool"]["backlog_files"] == 0)

    await eventually(read, 600, "the spool read")  # others use the machine too; the scenario has a limit of its own


class Attack:
    """Sends inputs, several ways at a time, and looks at each answer. ``refused`` counts polite refusals."""

    def __init__(self, world: World, daemon: DaemonUnderTest, http: aiohttp.ClientSession, api: dict[str, Any]) -> None:
        # Dice of their own: what one way sends does not depend on how quick another is.
        self._dice = {name: Random(f"{world.seed} {name}") for name in _SHARES}
        self._hostile = {name: Hostile(dice, api) for name, dice in self._dice.items()}
        self._daemon = daemon
        self._http = http
        self._cursor = "0000000000000000.0.0000000000"
        self.inputs = 0
        self.refused = 0
        self.sent: dict[str, int] = {}

    @property
    def made(self) -> Counter[str]:
        """What was in them."""
        return sum((hostile.made for hostile in self._hostile.values()), Counter())

    async def send(self, count: int) -> None:
        """``count`` inputs: most as lines, which are many a request."""
        self._cursor = (await get_json(f"{self._daemon.url}/status"))["log"]["cursor"]
        ways = (self._post_lines, self._spool_lines, self._query, self._packets, self._garbage)
        counts = {name: round(count * share) for name, share in _SHARES.items()}
        shares = zip(counts.items(), ways, strict=True)
        await asyncio.gather(*(self._share(name, part, way) for (name, part), way in shares))

    async def _share(self, name: str, count: int, way: Callable[[int], Awaitable[None]]) -> None:
        left = count
        while left > 0:
            part = min(left, _PARTS[name])
            await way(part)
            left -= part
            self.inputs += part
            self.sent[name] = self.sent.get(name, 0) + part

    def _look(self, what: str, status: int, body: str) -> None:
        if status >= 500 or '"internal"' in body:
            raise Violation(f"{what} was answered {status}: {body[:500]}")
        self.refused += status >= 400

    async def _post_lines(self, count: int) -> None:
        hostile, dice = self._hostile["posted"], self._dice["posted"]
        body = b"\n".join(hostile.line() for _ in range(count))
        kind = {"Content-Type": "application/x-ndjson"}
        async with self._http.post(f"{self._daemon.url}/api/events", data=body, headers=kind) as answer:
            self._look("a body of lines", answer.status, await answer.text())
        # One alone, as JSON: another way through the checks.
        body = hostile.line()
        kind = {"Content-Type": dice.choice(("application/json", "text/plain", "application/json; x=\xe9"))}
        async with self._http.post(f"{self._daemon.url}/api/events", data=body, headers=kind) as answer:
            self._look(f"the body {body[:200]!r}", answer.status, await answer.text())

    async def _spool_lines(self, count: int) -> None:
        hostile, dice = self._hostile["spooled"], self._dice["spooled"]
        for left in range(count, 0, -_FILE_LINES):
            name = dice.choice((f"{time.time_ns() // 1000}-1-{dice.randrange(10**9)}", f"x-{dice.randrange(10**9)}"))
            lines = [dice.choice((hostile.line, hostile.hook))() for _ in range(min(left, _FILE_LINES))]
            with (self._daemon.home.spool / f"{name}.jsonl").open("ab") as file:
                file.write(b"".join(b"\n" + line + b"\n" for line in lines))
        await _settled(self._daemon)

    async def _query(self, count: int) -> None:
        requests = (self._hostile["queries"].request(self._cursor) for _ in range(count))
        await _each(requests, lambda one: self._ask(*one))

    async def _ask(self, path: str, query: list[tuple[str, str]]) -> None:
        # What no client can send is refused by ours.
        with contextlib.suppress(ValueError, aiohttp.InvalidURL):
            async with self._http.get(f"{self._daemon.url}{path}", params=query) as answer:
                self._look(f"{path} with {query}", answer.status, await _text_of(answer))

    async def _packets(self, count: int) -> None:
        packets = [self._hostile["packets"].packet(self._cursor) for _ in range(count)]
        await _each((packets[first : first + _PACKETS] for first in range(0, count, _PACKETS)), self._session)

    async def _session(self, packets: list[str | bytes]) -> None:
        async with self._websocket() as websocket:
            for packet in packets:
                with contextlib.suppress(ConnectionError):  # it has been cut off for what came before
                    await (websocket.send_bytes if isinstance(packet, bytes) else websocket.send_str)(packet)
            await self._answers(websocket)

    @contextlib.asynccontextmanager
    async def _websocket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        url = f"{self._daemon.url}/socket.io/?EIO=4&transport=websocket"
        async with self._http.ws_connect(url, max_msg_size=0) as websocket:
            await websocket.send_str("40")
            yield websocket

    async def _answers(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                message = await websocket.receive(timeout=0.02)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                if '"code":"internal"' in message.data:
                    raise Violation(f"a packet was answered: {message.data[:500]}")

    async def _garbage(self, count: int) -> None:
        await _each((self._engine_request() for _ in range(count)), lambda one: self._ask_engine(*one))

    def _engine_request(self) -> tuple[str, dict[str, str], bytes | None]:
        dice, hostile = self._dice["garbage"], self._hostile["garbage"]
        query = {
            "EIO": dice.choice(("4", "3", "", "9" * 30)),
            "transport": dice.choice(("polling", "websocket", hostile.text())),
            "sid": dice.choice(("", "x", hostile.text())),
            "j": dice.choice(("", "0", hostile.text())),
        }
        chosen = {name: value for name, value in query.items() if dice.random() < 0.6}
        method, body = dice.choice((("GET", None), ("POST", hostile.polling_body())))
        return method, chosen, body

    async def _ask_engine(self, method: str, query: dict[str, str], body: bytes | None) -> None:
        with contextlib.suppress(ValueError, aiohttp.InvalidURL, TimeoutError):
            async with (
                asyncio.timeout(2),
                self._http.request(method, f"{self._daemon.url}/socket.io/", params=query, data=body) as answer,
            ):
                self._look(f"{method} of Engine.IO with {query}", answer.status, (await answer.text())[:500])


async def _text_of(answer: aiohttp.ClientResponse) -> str:
    """A replay whose events are pruned meanwhile is broken off: what came of it must not look like the whole."""
    try:
        return await answer.text()
    except aiohttp.ClientPayloadError:
        if not answer.url.path.endswith("/patches"):
            raise
        return ""


async def _each(inputs: Iterable[Input], send: Callable[[Input], Awaitable[None]]) -> None:
    """Several hands, each with one input at a time, until there are no more: nobody waits for the slowest."""
    left = iter(inputs)

    async def hand() -> None:
        for one in left:
            await send(one)

    await asyncio.gather(*(hand() for _ in range(_HANDS)))

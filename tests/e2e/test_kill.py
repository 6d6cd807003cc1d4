"""The daemon is killed again and again under load from every way in, with readers on every transport.

Afterwards: every acknowledged event and every spooled line is in the log exactly once (invariants 2, 3 and 4), numbers
have no gap (1), every reader saw every event exactly once and in order (5), what happened after something came after
it, and the read model equals a rebuild (9).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
import socketio

from claude_loop.clock import SystemClock
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.ids import new_event_id
from claude_loop.progress.projection import ProgressProjection
from claude_loop.supervision import TaskOwner
from tests.e2e.daemon import Daemon
from tests.support import BIN, eventually

KILLS = int(os.environ.get("CLAUDE_LOOP_TEST_KILLS", "30"))
RETRY_SECONDS = 0.05

# Each chain is a parent, its subshell, and the parent again: three spool files take part in two.
BASH_LOAD = """
set -euo pipefail
source "$1/emit_progress.sh"
name=$2 stop=$3 chain=0
while [[ ! -e $stop ]]; do
  chain=$((chain + 1))
  emit_event chain.step prd=KILL story="$name" chain:=$chain step:=1
  ( emit_event chain.step prd=KILL story="$name" chain:=$chain step:=2 )
  emit_event chain.step prd=KILL story="$name" chain:=$chain step:=3
  emit_story_started KILL "$name"
  emit_test_run KILL "$name" "$chain" 0
  sleep 0.05
done
emit_flush 30 && printf '%s\\n' "$chain" > "$stop.$name"
"""


async def call(client: socketio.AsyncClient, gone: asyncio.Event, name: str, payload: dict) -> dict:
    """``client.call`` that also ends when the connection does; the library's own waits for its timeout then."""
    answer: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
    await client.emit(name, payload, callback=answer.set_result)
    ends = TaskOwner("call")
    broken = ends.spawn(gone.wait(), name)
    await asyncio.wait([answer, broken], return_when=asyncio.FIRST_COMPLETED, timeout=5)
    await ends.close()
    if not answer.done():
        raise TimeoutError
    return answer.result()


async def leave(client: socketio.AsyncClient) -> None:
    """Disconnect; the client library may wait for ever for a server that is gone."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client.disconnect(), 2)


class Publisher:
    """Publishes events one after the other, each until it is acknowledged, and remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[str, int] = {}
        self.stopping = False

    def event(self) -> dict:
        id_ = new_event_id(SystemClock())
        return {"id": id_, "type": "load.sent", "prd_id": "KILL", "source": self.name, "data": {"from": self.name}}

    def answered(self, id_: str, answer: dict) -> None:
        assert answer["id"] == id_
        assert self.acknowledged.setdefault(id_, answer["seq"]) == answer["seq"]


class HttpPublisher(Publisher):
    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            while not self.stopping:
                await self.publish_all(session, url, [self.event() for _ in range(random.randint(1, 20))])

    async def publish_all(self, session: aiohttp.ClientSession, url: str, events: list[dict]) -> None:
        while True:
            try:
                async with session.post(f"{url}/api/events", json=events) as response:
                    answer = await response.json()
                    if response.status == 200:
                        assert answer["rejected"] == []
                        for one in answer["accepted"]:
                            self.answered(one["id"], one)
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(RETRY_SECONDS)


class SocketIOPublisher(Publisher):
    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            event = self.event()
            while not self.stopping or event["id"] not in self.acknowledged:
                try:
                    await self.publish(session, url, event)
                except (socketio.exceptions.SocketIOError, aiohttp.ClientError, TimeoutError, OSError):
                    await asyncio.sleep(RETRY_SECONDS)

    async def publish(self, session: aiohttp.ClientSession, url: str, event: dict) -> None:
        """Publish ``event`` and more after it, until something breaks."""
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        gone = asyncio.Event()
        client.on("disconnect", lambda *_: gone.set())
        await client.connect(url, transports=["websocket"])
        try:
            while not self.stopping or event["id"] not in self.acknowledged:
                self.answered(event["id"], await call(client, gone, "event", event))
                if not self.stopping:
                    event.update(self.event())
        finally:
            await leave(client)


class Reader:
    """Follows everything from the start, resumes from its cursor after each break, and notes what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []
        self.cursor: str | None = None
        self.resets: list[str] = []
        self.resumed = 0

    def saw(self, event: dict) -> None:
        self.seen.append((event["seq"], event["id"]))

    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    self.resumed += 1
                    await self.follow(session, url)
                except (aiohttp.ClientError, socketio.exceptions.SocketIOError, TimeoutError, OSError):
                    pass
                await asyncio.sleep(RETRY_SECONDS)

    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        raise NotImplementedError


class SseReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        timeout = aiohttp.ClientTimeout(None, sock_read=20)
        async with session.get(f"{url}/api/events/stream?from=start", headers=headers, timeout=timeout) as response:
            message: dict[str, str] = {}
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if line:
                    key, _, value = line.partition(": ")
                    message[key] = value
                    continue
                if message.get("event") == "reset":
                    self.resets.append(message["data"])
                elif "data" in message and "event" not in message:
                    self.saw(json.loads(message["data"]))
                self.cursor = message.get("id", self.cursor)
                message = {}


class SocketIOReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        gone = asyncio.Event()

        @client.on("events")
        async def events(frame: dict) -> None:
            if self.cursor is not None:
                assert frame["prev"] == self.cursor, "a frame that does not follow the last one"
            for event in frame["events"]:
                self.saw(event)
            self.cursor = frame["upto"]

        @client.on("disconnect")
        async def disconnect(*_: object) -> None:
            gone.set()

        await client.connect(url, transports=["websocket"])
        try:
            answer = await call(client, gone, "subscribe", {"from": self.cursor or "start"})
            assert answer["ok"], answer
            if answer["status"] == "reset":
                self.resets.append(answer["reason"])
            await gone.wait()
        finally:
            await leave(client)


class PollingReader(Reader):
    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            query = {"limit": "1000"} | ({"after": self.cursor} if self.cursor else {})
            async with session.get(f"{url}/api/events", params=query, timeout=aiohttp.ClientTimeout(5)) as response:
                page = await response.json()
                if response.status != 200:
                    self.resets.append(page["error"]["code"])
                    return
            for event in page["events"]:
                self.saw(event)
            self.cursor = page["cursor"]
            if not page["more"]:
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_nothing_is_lost_doubled_or_misplaced_however_often_the_daemon_is_killed(tmp_path):
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    daemon = Daemon(tmp_path / "home")
    await asyncio.to_thread(daemon.start)
    publishers = [HttpPublisher("http-1"), HttpPublisher("http-2"), SocketIOPublisher("socketio")]
    readers = [SseReader(), SocketIOReader(), PollingReader()]
    stop_file = tmp_path / "stop"
    shells = [start_shell(daemon, f"shell-{n}", stop_file) for n in range(2)]
    tasks = TaskOwner("kill test")
    publishing = [tasks.spawn(one.run(daemon.url), one.name) for one in publishers]
    for one in readers:
        tasks.spawn(one.run(daemon.url), type(one).__name__)
    try:
        for _ in range(KILLS):
            await some_moment(dice, publishers)
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
        for one in publishers:
            one.stopping = True
        await asyncio.wait_for(asyncio.gather(*publishing), 60)
        stop_file.touch()
        for shell in shells:
            output, _ = await asyncio.to_thread(shell.communicate, timeout=60)
            assert (shell.returncode, output) == (0, b"")
        head = daemon_head(daemon)
        for one in readers:
            await eventually(lambda one=one: one.seen and one.seen[-1][0] >= head, 60, f"{type(one).__name__} at head")
    finally:
        await tasks.close()
        for shell in shells:
            shell.kill()
            shell.wait()
        assert daemon.stop() == 0
    stored = await stored_events(daemon.home.database)
    check_log(stored, publishers, stop_file)
    check_readers(stored, readers)
    check_chains(stored)
    print(f"{KILLS} kills, {len(stored)} events, reconnects {[one.resumed for one in readers]}")


async def some_moment(dice: random.Random, publishers: list[Publisher]) -> None:
    """Now and then while the daemon has hardly begun, else at some moment after everybody has got through to it."""
    if dice.random() < 0.2:
        await asyncio.sleep(dice.uniform(0.0, 0.05))
        return
    before = [len(one.acknowledged) for one in publishers]
    await eventually(
        lambda: all(len(one.acknowledged) > n for one, n in zip(publishers, before, strict=True)),
        30,
        "acknowledgements",
    )
    await asyncio.sleep(dice.uniform(0.0, 0.3))


def start_shell(daemon: Daemon, name: str, stop_file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", BASH_LOAD, "load", str(BIN), name, str(stop_file)],
        env=daemon.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def daemon_head(daemon: Daemon) -> int:
    return json.loads(daemon.run("status", "--json").stdout)["log"]["head"]


async def stored_events(database: Path) -> list:
    log = SqliteEventLog(database, ProgressProjection())
    await log.open(nobody)
    try:
        events = (await log.read(0, 10**9)).events
        kept = await log.entities("")
        assert await log.rebuild() == len(events)
        assert await log.entities("") == kept, "the read model is not what the log says"
        return events
    finally:
        await log.close()


def check_log(stored: list, publishers: list[Publisher], stop_file: Path) -> None:
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    at = {event.id: event.seq for event in stored}
    assert len(at) == len(stored), "an id is stored twice"
    for publisher in publishers:
        assert len(publisher.acknowledged) >= 20, f"{publisher.name} published next to nothing"
        assert {id_: at.get(id_) for id_ in publisher.acknowledged} == publisher.acknowledged
        assert sum(event.source == publisher.name for event in stored) == len(publisher.acknowledged)
    for n in range(2):
        chains = int(Path(f"{stop_file}.shell-{n}").read_text())
        steps = Counter(e.data["chain"] for e in stored if e.type == "chain.step" and e.story_id == f"shell-{n}")
        assert steps == dict.fromkeys(range(1, chains + 1), 3)
        others = [e for e in stored if e.type in ("story.started", "test.run") and e.story_id == f"shell-{n}"]
        assert len(others) == 2 * chains


def check_readers(stored: list, readers: list[Reader]) -> None:
    everything = [(event.seq, event.id) for event in stored]
    for reader in readers:
        assert reader.resets == [], type(reader).__name__
        assert reader.resumed > KILLS / 2
        # What the daemon says of its own while it stops may come after the reader was told to end.
        assert reader.seen == everything[: len(reader.seen)], type(reader).__name__
        assert len(everything) - len(reader.seen) <= 2


def check_chains(stored: list) -> None:
    for name in {event.story_id for event in stored if event.type == "chain.step"}:
        order = [(e.data["chain"], e.data["step"]) for e in stored if e.type == "chain.step" and e.story_id == name]
        assert order == sorted(order), f"{name}: something overtook its cause"

"""Publishers that repeat each event until it is acknowledged, and remember what they were promised."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from random import Random

import aiohttp
import socketio

from claude_loop.clock import SystemClock
from claude_loop.ids import new_event_id
from tests.prove.oracle import Violation
from tests.prove.readers import RETRY_SECONDS, call, leave
from tests.support import BIN

# Each chain is a parent, its subshell, and the parent again: three spool files take part in two.
_BASH_LOAD = """
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
  (( chain % 5 )) || emit_flush 10 || : # slow machines
  sleep 0.1
done
emit_flush 30 && printf '%s\\n' "$chain" > "$stop.$name"
"""


class Publisher:
    """Publishes events one after the other, each until it is acknowledged, and remembers what it was told."""

    def __init__(self, name: str, dice: Random | None = None) -> None:
        self.name = name
        self.dice = dice or Random(name)
        self.acknowledged: dict[str, int] = {}
        self.duplicates = 0
        self.stopping = False
        self.pause = 0.02

    def event(self) -> dict:
        id_ = new_event_id(SystemClock())
        return {"id": id_, "type": "load.sent", "prd_id": "KILL", "source": self.name, "data": {"from": self.name}}

    def answered(self, id_: str, answer: dict) -> None:
        if answer["id"] != id_:
            raise Violation(f"{id_} was answered as {answer['id']}")
        self.duplicates += bool(answer["duplicate"])
        promised = self.acknowledged.setdefault(id_, answer["seq"])
        if promised != answer["seq"]:
            raise Violation(f"{id_} was promised seq {promised}, then {answer['seq']}")

    async def run(self, url: str) -> None:
        raise NotImplementedError


class HttpPublisher(Publisher):
    async def run(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            while not self.stopping:
                await self.publish_all(session, url, [self.event() for _ in range(self.dice.randint(1, 20))])
                await asyncio.sleep(self.pause)

    async def publish_all(self, session: aiohttp.ClientSession, url: str, events: list[dict]) -> None:
        while True:
            try:
                async with session.post(f"{url}/api/events", json=events) as response:
                    answer = await response.json()
                    if response.status == 200:
                        if answer["rejected"]:
                            raise Violation(f"good events were rejected: {answer['rejected'][:3]}")
                        for one in answer["accepted"]:
                            self.answered(one["id"], one)
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
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
                answer = await call(client, gone, "event", event)
                if "error" in answer:  # for the moment: a disk is full, the daemon stops
                    raise TimeoutError(answer["error"]["code"])
                self.answered(event["id"], answer)
                if not self.stopping:
                    event.update(self.event())
                    await asyncio.sleep(self.pause)
        finally:
            await leave(client)


class Shell:
    """A bash loop that emits chains through the spool until ``stop_file`` exists, then waits for their commit."""

    def __init__(self, name: str, stop_file: Path, environ: dict[str, str]) -> None:
        self.name = name
        self._told = Path(f"{stop_file}.{name}")
        self.process = subprocess.Popen(
            ["bash", "-c", _BASH_LOAD, "load", str(BIN), name, str(stop_file)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self) -> int:
        """Wait for its end; how many chains it emitted. It must have said nothing, and not failed (invariant 8)."""
        output, _ = self.process.communicate(timeout=60)
        assert (self.process.returncode, output) == (0, b""), (self.process.returncode, output[-500:])
        return int(self._told.read_text())

    def end(self) -> None:
        self.process.kill()  # a stopped process dies too
        self.process.communicate()

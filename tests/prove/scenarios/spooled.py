"""What emitters do to the spool: they hold files open, tear lines, are stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.prove import oracle
from tests.prove.load import Load, judge
from tests.prove.oracle import Violation
from tests.prove.readers import Reader, SseReader
from tests.prove.scenarios.killed import no_resets
from tests.prove.stored import StoredLog, read_log
from tests.prove.world import DaemonUnderTest, World, get_json
from tests.support import eventually

# Writes a record, stops in the middle of its life with the file open, writes another once it is continued.
_HOLDER = """
exec 3>>"$1"
printf '\\n%s\\n' "$2" >&3
kill -STOP $$
printf '\\n%s\\n' "$3" >&3
"""


def record(id_: str, **data: object) -> str:
    return json.dumps({"id": id_, "type": "spool.line", "prd_id": "SPOOL", "data": data})


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def claim(world: World) -> None:
    """A stopped process holds a spool file open that seems abandoned; what it writes later arrives too."""
    daemon = world.daemon(quick=True)
    await asyncio.to_thread(daemon.start)
    reader = SseReader()
    world.tasks.spawn(reader.run(daemon.url), "reader")
    expected: list[str] = []
    holders = []
    for _ in range(world.pick(3, 40)):
        stem = f"{time.time_ns() // 1000}-{dead_pid()}-{world.dice.randrange(10**6)}"
        file = daemon.home.spool / f"{stem}.jsonl"
        ids = [f"{stem}.1", f"{stem}.2"]
        expected += ids
        holders.append(world.process(["bash", "-c", _HOLDER, "holder", str(file), *map(record, ids)]))
        await eventually(lambda id_=ids[0]: _was_told(reader, id_), 20, "the first line")
        await eventually(lambda file=file: not file.exists(), 20, "the file claimed")
        if world.dice.random() < 0.5:
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
        await asyncio.sleep(world.dice.uniform(0.0, 0.5))
        holders[-1].send_signal(signal.SIGCONT)
        await asyncio.to_thread(holders[-1].wait, 10)
        # Whoever still knows the name begins a new life of it.
        again = f"{stem}.3"
        expected.append(again)
        with file.open("a") as late:
            late.write(f"\n{record(again)}\n")
    await _drained(daemon)
    await _conclude(world, daemon, [reader], expected)


def _was_told(reader: Reader, id_: str) -> bool:
    return any(entry[1] == id_ for entry in reader.transcript.events[-50:])


async def torn(world: World) -> None:
    """Torn and truncated lines, foreign bytes, and good lines after them; the daemon is killed meanwhile."""
    daemon = world.daemon(quick=True)
    await asyncio.to_thread(daemon.start)
    reader = SseReader()
    world.tasks.spawn(reader.run(daemon.url), "reader")
    expected: list[str] = []
    torn_ids: set[str] = set()
    for number in range(world.pick(12, 300)):
        stem = f"{time.time_ns() // 1000}-{dead_pid()}-{number}"
        pieces: list[bytes] = []
        for line in range(world.dice.randint(2, 12)):
            id_ = f"{stem}.{line}"
            whole = record(id_, text="ü" * world.dice.randint(0, 300)).encode()
            if world.dice.random() < 0.4:
                pieces.append(b"\n" + _damaged(world, whole))
                torn_ids.add(id_)
            else:
                pieces.append(b"\n" + whole + b"\n")
                expected.append(id_)
        await _write_in_pieces(world, daemon.home.spool / f"{stem}.jsonl", b"".join(pieces))
        if world.dice.random() < 0.15:
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
    await _drained(daemon)
    spool = (await get_json(f"{daemon.url}/status"))["spool"]
    stored = await _conclude(world, daemon, [reader], expected)
    if not torn_ids.isdisjoint(event.id for event in stored.events):
        raise Violation("a torn line became an event")
    world.count(torn=len(torn_ids), rejected=spool["rejected"])


def _damaged(world: World, whole: bytes) -> bytes:
    """A line that was cut off, or overwritten with what a crashed file system leaves: zeros."""
    cut = world.dice.randrange(1, len(whole) - 1)
    return whole[:cut] + bytes(world.dice.choice((0, 0, len(whole) - cut)))


async def _write_in_pieces(world: World, file: Path, content: bytes) -> None:
    """As a slow emitter does, not always at the ends of lines."""
    with file.open("ab", buffering=0) as out:
        while content:
            size = world.dice.randint(1, max(1, len(content)))
            out.write(content[:size])
            content = content[size:]
            await asyncio.sleep(world.dice.choice((0.0, 0.0, 0.02)))


async def stop(world: World) -> None:
    """SIGSTOP and SIGCONT of emitters, daemon and a client, at random; in the end everybody has everything."""
    daemon = world.daemon(quick=True)
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon, shells=2)
    load.start()
    told = world.folder / "tail.jsonl"
    follow = [daemon.python, "-m", "claude_loop", "tail", "--since", "start", "--json", "--output", str(told)]
    client = world.process(follow, env=daemon.environ, stderr=subprocess.DEVNULL)
    pids = [daemon.pid, client.pid, *(shell.process.pid for shell in load.shells)]
    stopped: set[int] = set()
    stops = 0
    for _ in range(world.pick(20, 400)):
        pid = world.dice.choice(pids)
        if pid in stopped:
            stopped.discard(pid)
            os.kill(pid, signal.SIGCONT)
        else:
            stopped.add(pid)
            stops += 1
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(world.dice.uniform(0.0, 0.3))
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    await load.progress()
    await load.finish()
    head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
    await eventually(lambda: _head_of(told) >= head, 30, f"`tail` at {head}")
    client.terminate()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)
    seen = [json.loads(line) for line in told.read_text().splitlines()]
    tail = oracle.Transcript("tail", [(event["seq"], event["id"]) for event in seen if "seq" in event])
    oracle.in_order(tail)
    oracle.complete(tail, head)
    world.count(stops=stops, delivered=len(tail.events))


def _head_of(file: Path) -> int:
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1])["seq"] if lines else 0


async def _drained(daemon: DaemonUnderTest) -> None:
    places = (daemon.home.spool, daemon.home.leaving)
    await eventually(lambda: not any(os.listdir(place) for place in places), 40, "an empty spool")


async def _conclude(world: World, daemon: DaemonUnderTest, readers: list[Reader], expected: list[str]) -> StoredLog:
    head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
    for one in readers:
        await eventually(lambda one=one: one.transcript.head >= head, 30, f"{one.transcript.name} at {head}")
    assert daemon.stop() == 0
    stored = await read_log(daemon.home.database)
    judge(world, stored, {}, readers)
    oracle.exactly_once(expected, [event.id for event in stored.of_type("spool.line")], "spooled lines")
    world.count(spooled=len(expected))
    return stored

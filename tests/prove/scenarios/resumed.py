"""Readers that resume again and again, and publishers that never heard the answer."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.prove import oracle
from tests.prove.load import judge
from tests.prove.publishers import HttpPublisher
from tests.prove.readers import PollingReader, SocketIOReader, SseReader, messages
from tests.prove.stored import read_log
from tests.prove.world import World, get_json
from tests.support import eventually


async def resume(world: World) -> None:
    """Readers that resume from their cursor after each message, while events come in."""
    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    publisher = HttpPublisher("http", world.dice)
    publisher.pause = world.pick(0.2, 0.05)
    publishing = world.tasks.spawn(publisher.run(daemon.url), "publisher")
    readers = [Impatient("sse"), SocketIOReader("socketio"), PollingReader("polling")]
    times = world.pick(150, 10_000)
    patient = [world.tasks.spawn(one.run(daemon.url), one.transcript.name) for one in readers[1:]]
    async with aiohttp.ClientSession() as session:
        while readers[0].resumed < times:
            await readers[0].once(session, daemon.url)
        publisher.stopping = True
        await publishing
        head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
        while readers[0].transcript.head < head:
            await readers[0].once(session, daemon.url)
    for one in readers[1:]:
        await eventually(lambda one=one: one.transcript.head >= head, 30, f"{one.transcript.name} at {head}")
    assert not any(task.done() for task in patient)
    assert daemon.stop() == 0
    stored = await read_log(daemon.home.database)
    judge(world, stored, publisher.acknowledged, readers)
    for one in readers:
        oracle.complete(one.transcript, head)
    world.count(resumptions=readers[0].resumed)


class Impatient(SseReader):
    """Takes what comes at once, breaks off, and resumes."""

    async def once(self, session: aiohttp.ClientSession, url: str) -> None:
        self.resumed += 1
        async with self.open(session, url) as answer:
            assert answer.status == 200, await answer.text()
            seen = len(self.transcript.entries)
            async for message in messages(answer):
                self.take(message)
                if len(self.transcript.entries) > seen:
                    break
            answer.close()
        oracle.in_order(oracle.Transcript(self.transcript.name, self.transcript.entries[max(0, seen - 1) :]))


async def retry(world: World) -> None:
    """Publishers whose connection breaks before the answer send the same events again, over HTTP and in parallel."""
    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    readers = [SseReader(), PollingReader()]
    for one in readers:
        world.tasks.spawn(one.run(daemon.url), one.transcript.name)
    publisher = HttpPublisher("again", world.dice)
    sent: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        for _ in range(world.pick(40, 1_000)):
            events = [publisher.event() for _ in range(world.dice.randint(1, 10))]
            sent += [event["id"] for event in events]
            await _break_off(session, daemon.url, events, world.dice.uniform(0.0, 0.01))
            # Twice at once, and after a first time of which nobody knows.
            await asyncio.wait_for(
                asyncio.gather(*(publisher.publish_all(session, daemon.url, events) for _ in range(2))), 20
            )
    head = (await get_json(f"{daemon.url}/status"))["log"]["head"]
    for one in readers:
        await eventually(lambda one=one: one.transcript.head >= head, 30, f"{one.transcript.name} at {head}")
    assert daemon.stop() == 0
    stored = await read_log(daemon.home.database)
    judge(world, stored, publisher.acknowledged, readers)
    oracle.exactly_once(sent, [event.id for event in stored.events if event.source == "again"], "events sent again")
    world.count(duplicates=publisher.duplicates, sent_again=2 * len(sent))


async def _break_off(session: aiohttp.ClientSession, url: str, events: list[dict], after: float) -> None:
    try:
        async with asyncio.timeout(after), session.post(f"{url}/api/events", json=events):
            pass
    except (TimeoutError, aiohttp.ClientError):
        pass

"""The queue of one client's packets: rounds, idleness, and an end that stays."""

from __future__ import annotations

import asyncio

from engineio.packet import PING, Packet

from claude_loop.transports.outbox import ROUND, Frame, Outbox
from tests.support import PATIENCE


def frames(count: int) -> list[Frame]:
    return [Frame(f'42["n",{n}]'.encode()) for n in range(count)]


async def test_a_frame_is_bytes_for_websockets_and_text_for_polling() -> None:
    frame = Frame('42["n","é"]'.encode())
    assert frame.encode() is frame
    assert frame.encode(b64=True) == '42["n","é"]'


async def test_rounds_keep_order_and_bound() -> None:
    outbox = Outbox()
    put = frames(40)
    for frame in put:
        outbox.put_nowait(frame)
    assert outbox.bytes == sum(len(frame.utf8) for frame in put)
    taken = [await outbox.take() for _ in range(3)]
    assert [len(each) for each in taken] == [ROUND, ROUND, 40 - 2 * ROUND]
    assert [packet for each in taken for packet in each] == put
    assert (len(outbox), outbox.bytes) == (0, 0)


async def test_idle_means_taken_and_asked_for_more() -> None:
    outbox = Outbox()
    idle = asyncio.create_task(outbox.idle())
    outbox.put_nowait(Packet(PING))
    await outbox.take()
    await asyncio.sleep(0)
    assert not idle.done(), "taken, but perhaps not sent"
    taking = asyncio.create_task(outbox.take())
    await asyncio.wait_for(idle, PATIENCE)
    await asyncio.wait_for(outbox.idle(), PATIENCE)
    outbox.put_nowait(Packet(PING))
    assert not outbox.is_idle
    assert len(await taking) == 1


async def test_below() -> None:
    outbox = Outbox()
    for frame in frames(ROUND + 5):
        outbox.put_nowait(frame)
    waiting = asyncio.create_task(outbox.below(6))
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.take()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_the_end_comes_after_what_was_put_before_and_stays() -> None:
    outbox = Outbox()
    (frame,) = frames(1)
    outbox.put_nowait(frame)
    outbox.put_nowait(None)
    assert await outbox.take() == [frame]
    assert await outbox.take() == []
    assert await outbox.take() == []


async def test_cancelled_waiters_are_forgotten() -> None:
    outbox = Outbox()
    takers = [asyncio.create_task(outbox.take()) for _ in range(3)]
    waiter = asyncio.create_task(outbox.below(1))
    outbox.put_nowait(Packet(PING))
    await asyncio.gather(takers[0])
    outbox.put_nowait(Packet(PING))
    takers[1].cancel()
    takers[2].cancel()
    await asyncio.gather(*takers, waiter, return_exceptions=True)
    assert len(await outbox.take()) == 1
    blocked = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    blocked.cancel()
    outbox.put_nowait(Packet(PING))
    await asyncio.gather(blocked, return_exceptions=True)
    assert len(await outbox.take()) == 1


async def test_closing_never_waits_for_a_reader() -> None:
    outbox = Outbox()
    await outbox.put(Packet(PING))
    await asyncio.wait_for(outbox.join(), PATIENCE)

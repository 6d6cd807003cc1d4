"""Several batches on their way at a time: each change of a row goes with one of them, and again if that one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import StorageFailed
from claude_loop.eventlog.base import Appended, Chain, SpoolOffset
from claude_loop.events import Event
from claude_loop.intake import spool_commit
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool_commit import BATCHES_IN_FLIGHT, Committer, Stopping
from claude_loop.intake.spool_reading import LineReader
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings
from tests.support import PATIENCE

A, B, C, D, E = (SpoolOffset(f"{name}.jsonl.1", 7, None) for name in "abcde")


class SlowHub:
    """Answers when told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[SpoolOffset], Chain]] = []
        self.answers: list[asyncio.Future[list[Appended]]] = []
        self.asked = asyncio.Semaphore(0)

    def submit_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        assert chain is not None
        assert len(make()) == most == 0
        self.sent.append((list(offsets), chain))
        self.answers.append(asyncio.get_running_loop().create_future())
        self.asked.release()
        return self.answers[-1]


class World:
    def __init__(self, home: Path) -> None:
        place = Home(home)
        place.prepare()
        acceptor = Acceptor(LimitSettings(), RedactSettings(), ManualClock())
        self.hub, self.table = SlowHub(), SpoolTable()
        rejected = RejectedLines(place, acceptor.redactor, ManualClock())
        self.committer = Committer(self.hub, self.table, rejected, LineReader(acceptor))

    async def change(self, row: SpoolOffset) -> None:
        self.table.row_changes.append(row)
        await self.committer.put(self.committer.batch())


@pytest.fixture
def world(home: Path) -> World:
    return World(home)


async def test_each_change_of_a_row_goes_with_one_batch(world: World) -> None:
    await world.change(A)
    await world.change(B)
    await world.committer.put(world.committer.batch())  # nothing to store
    world.table.row_changes.append(C)
    for answer in world.hub.answers:
        answer.set_result([])
    await world.committer.settle()
    assert world.table.row_changes == [C]
    await world.change(D)
    assert [offsets for offsets, _ in world.hub.sent] == [[A], [B], [C, D]]


async def test_a_file_that_is_gone_leaves_no_row(world: World) -> None:
    gone, kept = (world.table.meet(f"{name}.jsonl", inode, 1) for inode, name in enumerate("xy", 1))
    batch = world.committer.batch()
    batch.add([(0, gone, None, 0, 9), (0, kept, None, 0, 9)])
    world.table.forget(gone)
    await world.committer.put(batch)
    rows, _ = world.hub.sent[0]
    assert rows == [SpoolOffset(gone.row, 1, None), SpoolOffset(kept.row, 2, 9)]


async def test_not_too_many_are_on_their_way(world: World) -> None:
    for row in (A, B, C, D)[:BATCHES_IN_FLIGHT]:
        await world.change(row)
    assert len(world.hub.sent) == BATCHES_IN_FLIGHT
    further = asyncio.create_task(world.change(E))
    await asyncio.sleep(0)  # it runs, and waits
    assert len(world.hub.sent) == BATCHES_IN_FLIGHT
    world.hub.answers[0].set_result([])
    async with asyncio.timeout(PATIENCE):
        await further
    assert [offsets for offsets, _ in world.hub.sent[-1:]] == [[E]]


async def test_what_is_on_its_way_is_settled_before_a_stop(world: World) -> None:
    await world.change(A)
    world.committer.stop()
    stopped = asyncio.create_task(world.change(B))
    await asyncio.sleep(0)
    assert not stopped.done()
    world.hub.answers[0].set_result([])
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Stopping):
            await stopped
    assert world.table.row_changes == [B]
    assert [offsets for offsets, _ in world.hub.sent] == [[A]]


async def test_after_a_failure_all_of_them_go_again_in_order_and_in_a_new_chain(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_commit, "FIRST_RETRY_SECONDS", 0)
    for row in (A, B, C):
        await world.change(row)
    world.hub.answers[0].set_result([])
    for answer in world.hub.answers[1:]:
        answer.set_exception(StorageFailed("The disk is on fire."))
    settling = asyncio.create_task(world.committer.settle())
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            await world.hub.asked.acquire()
    assert world.committer.failure is not None
    for answer in world.hub.answers[3:]:
        answer.set_result([])
    async with asyncio.timeout(PATIENCE):
        await settling
    assert world.committer.failure is None
    assert [offsets for offsets, _ in world.hub.sent] == [[A], [B], [C], [B], [C]]
    chains = [chain for _, chain in world.hub.sent]
    assert chains[0] is chains[1] is chains[2] is not chains[3] is chains[4]
    assert world.table.row_changes == []

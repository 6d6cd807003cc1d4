"""The spool against a model: random emitting, tearing, holding open, failing storage, and crashes between any two steps.

The log must end with every complete record exactly once, each file's in its order, all of them in causal order, and
no event from a torn one; and the directories must end empty.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock, rfc3339
from claude_loop.errors import StorageFailed
from claude_loop.eventlog.base import Appended, Chain, SpoolOffset
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.intake import spool_batch, spool_commit, spool_merge
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.inotify import CREATE, MODIFY, MOVED_TO, Changes, Inotify
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool_drain import SpoolDrain
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings

GONE = 4_194_400  # above the largest pid there can be
NAMES = [f"1769428800000001-{GONE}-aa", f"1769428800000002-{os.getpid()}-bb", "somebody-else", "1769428800000003-1-cc"]


Make = Callable[[], Sequence[Event]]


class Crash(BaseException):
    """The daemon dies here."""


class Seam:
    """Counts the steps that reach the file system or the log, and lets something happen before or after one."""

    def __init__(self) -> None:
        self.countdown = -1
        self.happening: Any = None

    def step(self) -> None:
        if self.countdown == 0:
            self.countdown = -1
            self.happening()
        elif self.countdown > 0:
            self.countdown -= 1


class SteppedFiles(SpoolFiles):
    """Each operation is two steps: before and after it took effect."""

    def __init__(self, home: Home, seam: Seam) -> None:
        self.seam = seam
        super().__init__(home)

    def names(self, *a: Any) -> Any:
        return self._around(super().names, *a)

    def status(self, *a: Any) -> Any:
        return self._around(super().status, *a)

    def leave(self, *a: Any) -> Any:
        return self._around(super().leave, *a)

    def writers(self, *a: Any) -> Any:
        return self._around(super().writers, *a)

    def remove(self, *a: Any) -> Any:
        return self._around(super().remove, *a)

    def answer_flush(self, *a: Any) -> Any:
        return self._around(super().answer_flush, *a)

    @contextmanager
    def opened(self, *a: Any) -> Any:
        self.seam.step()
        with super().opened(*a) as found:
            yield found
        self.seam.step()

    def _around(self, call: Any, *a: Any) -> Any:
        self.seam.step()
        result = call(*a)
        self.seam.step()
        return result


class SteppedHub:
    """Commits at once. ``failures`` says what becomes of the next submits: stored or not, both times an error."""

    def __init__(self, log: MemoryEventLog, seam: Seam) -> None:
        self.log = log
        self.seam = seam
        self.failures: list[bool] = []

    def submit_made(
        self, make: Make, most: int, offsets: Sequence[SpoolOffset] = (), chain: Chain | None = None
    ) -> asyncio.Future[list[Appended]]:
        assert chain is not None
        self.seam.step()
        if self.failures and not self._is_refused(chain):
            if self.failures.pop():
                self.log.append_made(make, most, offsets, chain).result()
            return self.log.append_made(self._burn, most, (), chain)
        future = self.log.append_made(make, most, offsets, chain)
        self.seam.step()
        return future

    def _is_refused(self, chain: Chain) -> bool:
        try:
            chain.insist(sys.maxsize)
        except StorageFailed:
            return True
        return False

    def _burn(self) -> Sequence[Event]:
        raise StorageFailed("The disk is on fire.")


class World:
    """Emitters, the daemon under test, and what must come of it."""

    def __init__(self, root: Path, *, inotify: bool = False) -> None:
        self.inotify = inotify
        self.watch: Inotify | None = None
        self.home = Home(root / "home")
        self.home.prepare()
        self.clock = ManualClock()
        self.log = MemoryEventLog(clock=self.clock)
        self.seam = Seam()
        self.hub = SteppedHub(self.log, self.seam)
        self.count = 0
        # What complete records each life of each name holds, oldest first.
        self.lives: list[tuple[str, list[str]]] = []
        self.causal: list[str] = []
        self.torn: set[str] = set()
        self.crashed: Any = lambda: None
        self.held: dict[str, tuple[int, list[str]]] = {}
        self.drain = self._start()

    def _start(self) -> SpoolDrain:
        rows = [SpoolOffset(name, inode, offset) for (name, inode), offset in self.log._offsets.items()]
        acceptor = Acceptor(LimitSettings(), RedactSettings(), self.clock)
        self.rejected = RejectedLines(self.home, acceptor.redactor, self.clock)
        files = SteppedFiles(self.home, self.seam)
        if self.inotify:
            self.close_watch()
            self.watch = Inotify()
            self.watch.watch(str(self.home.spool), MODIFY | CREATE | MOVED_TO)
            self.watch.watch(str(self.home.leaving), MODIFY)
        return SpoolDrain(files, SpoolTable(rows), self.hub, acceptor, self.rejected, self.clock)

    # -- emitters ----------------------------------------------------------------------------------------------------

    def open(self, stem: str) -> tuple[int, list[str]]:
        """The file of this name as it is now, and the marks in it."""
        path = self.home.spool / f"{stem}.jsonl"
        existed = path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if not existed:
            self.lives.append((stem, []))
        # A name's file in `spool` is always its youngest life.
        return descriptor, next(marks for name, marks in reversed(self.lives) if name == stem)

    def record(self, stem: str, *, with_id: bool) -> tuple[str, bytes]:
        self.count += 1
        self.clock.advance(0.000_001)
        now = self.clock.now_us()
        mark = f"m{self.count}"
        stamp = f"{rfc3339(now // 1000)[:-4]}{now % 1_000_000:06d}Z"
        body: dict[str, Any] = {"type": "note.made", "data": {"mark": mark}, "timestamp": stamp}
        if not with_id:
            return mark, json.dumps(body).encode()
        # As our emitters write it: its time is seen without parsing.
        body = {"id": f"{stem}.{self.count}", "type": body["type"], "timestamp": stamp, "data": body["data"]}
        return mark, json.dumps(body, separators=(",", ":")).encode()

    def emit(self, stem: str) -> None:
        descriptor, marks = self.open(stem)
        mark, body = self.record(stem, with_id=stem[0].isdigit())
        os.write(descriptor, b"\n" + body + b"\n")
        os.close(descriptor)
        marks.append(mark)
        self.causal.append(mark)

    def tear(self, stem: str, share: float) -> None:
        descriptor, marks = self.open(stem)
        mark, body = self.record(stem, with_id=True)
        length = int(len(body) * share)
        os.write(descriptor, b"\n" + body[:length])
        os.close(descriptor)
        if length == len(body):
            marks.append(mark)
        else:
            self.torn.add(mark)

    def hold(self, stem: str) -> None:
        if stem not in self.held:
            self.held[stem] = self.open(stem)

    def release(self, stem: str, *, writing: bool) -> None:
        if stem not in self.held:
            return
        descriptor, marks = self.held.pop(stem)
        if writing:
            mark, body = self.record(stem, with_id=True)
            os.write(descriptor, b"\n" + body + b"\n")
            marks.append(mark)
        os.close(descriptor)

    # -- the daemon --------------------------------------------------------------------------------------------------

    async def turn(self) -> None:
        try:
            await self.drain.turn(self.changes)
        except Crash:
            self.crashed()
            self.drain = self._start()

    def changes(self) -> Changes:
        """What the kernel says; without it the whole is looked at in each turn."""
        return self.watch.read() if self.watch is not None else Changes({}, complete=False)

    def close_watch(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def crash(self) -> None:
        raise Crash

    def chain(self) -> None:
        """One process waits for another: parent, child, parent."""
        for stem in (NAMES[0], NAMES[1], NAMES[0], NAMES[2]):
            self.emit(stem)

    async def leave_while_held(self, stem: str, waits: list[float]) -> None:
        """Somebody has the file open while it becomes quiet, and perhaps a younger one begins."""
        self.emit(stem)
        self.hold(stem)
        for wait in waits:
            await self.turn()
            self.clock.advance(wait)
        if len(waits) % 2:
            self.emit(stem)
            await self.turn()

    async def finish(self) -> None:
        self.seam.countdown = -1
        self.hub.failures.clear()
        for stem in list(self.held):
            self.release(stem, writing=True)
        for _ in range(12):
            await self.turn()
            self.clock.advance(31)

    def check(self) -> None:
        marks = [event.data["mark"] for event in self.log._events]
        for stem in NAMES:  # older lives of a name come wholly before younger ones
            expected = [mark for name, held in self.lives if name == stem for mark in held]
            wanted = set(expected)
            assert [mark for mark in marks if mark in wanted] == expected
        assert sorted(marks) == sorted(mark for _, expected in self.lives for mark in expected)
        assert not self.torn & set(marks)
        assert os.listdir(self.home.spool) == []
        assert os.listdir(self.home.leaving) == []
        assert self.log._offsets == {}


stems = st.sampled_from(NAMES)
actions = st.one_of(
    st.tuples(st.just("emit"), stems),
    st.tuples(st.just("emit"), stems),
    st.tuples(st.just("chain")),
    st.tuples(st.just("tear"), stems, st.sampled_from([0.0, 0.5, 1.0])),
    st.tuples(st.just("hold"), stems),
    st.tuples(st.just("leave_while_held"), stems, st.lists(st.sampled_from([1.1, 31.0]), min_size=1, max_size=4)),
    st.tuples(st.just("release"), stems, st.booleans()),
    st.tuples(st.just("advance"), st.sampled_from([0.01, 1.0, 1.1, 5.0, 31.0])),
    st.tuples(st.just("fail"), st.lists(st.booleans(), max_size=3)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("interrupted"), st.sampled_from(["crash", "crash", "chain"]), st.integers(0, 60)),
)


async def _play(world: World, script: list[Any]) -> None:
    for action, *rest in script:
        if action == "turn":
            await world.turn()
        elif action == "interrupted":
            world.seam.happening = world.crash if rest[0] == "crash" else world.chain
            world.seam.countdown = rest[1]
            await world.turn()
            world.seam.countdown = -1
        elif action == "advance":
            world.clock.advance(rest[0])
        elif action == "fail":
            world.hub.failures = list(rest[0])
        elif action == "release":
            world.release(rest[0], writing=rest[1])
        else:
            outcome = getattr(world, action)(*rest)
            if outcome is not None:
                await outcome
    await world.finish()
    world.check()


def _run(script: list[Any], check: Any = None, *, inotify: bool, batch: int = 2) -> None:
    root = Path(tempfile.mkdtemp(prefix="cl-model-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_batch, "BATCH_EVENTS", batch)
        patch.setattr(spool_merge, "PORTION", batch)
        patch.setattr(spool_commit, "FIRST_RETRY_SECONDS", 0)
        patch.setattr(spool_commit, "LAST_RETRY_SECONDS", 0)
        world = World(root, inotify=inotify)
        try:
            asyncio.run(_play(world, script))
            if check is not None:
                check(world)
        finally:
            for descriptor, _ in world.held.values():
                os.close(descriptor)
            world.close_watch()
            shutil.rmtree(root)


@given(st.lists(actions, max_size=25), st.booleans(), st.sampled_from([1, 2, spool_batch.BATCH_EVENTS]))
def test_every_complete_record_once_and_in_order(script: list[Any], inotify: bool, batch: int) -> None:
    _run(script, inotify=inotify, batch=batch)


causal_actions = st.one_of(
    st.tuples(st.just("emit"), stems),
    st.tuples(st.just("chain")),
    st.tuples(st.just("advance"), st.sampled_from([0.01, 0.5, 1.0, 31.0])),
    st.tuples(st.just("turn")),
    st.tuples(st.just("interrupted"), st.sampled_from(["crash", "chain", "chain"]), st.integers(0, 30)),
)


@example(
    [("chain",), ("emit", NAMES[3]), ("turn",), ("advance", 1.0), ("interrupted", "chain", 17)], True
)  # written to a file in the moment in which it is moved away
@given(st.lists(causal_actions, max_size=25), st.booleans())
def test_files_are_merged_in_causal_order(script: list[Any], inotify: bool) -> None:
    """As long as nobody keeps a file open, the order over all files is that of emitting."""

    def check(world: World) -> None:
        assert [event.data["mark"] for event in world.log._events] == world.causal

    _run(script, check, inotify=inotify)


@pytest.mark.parametrize(
    ("stems", "step"), [(NAMES, step) for step in range(125)] + [(NAMES[:1], step) for step in range(40)]
)
def test_a_crash_at_each_step_of_a_whole_life(stems: list[str], step: int) -> None:
    """Emit, drain, leave, seal, remove, and the name again: with one crash after the given number of steps."""

    async def life(world: World) -> None:
        world.seam.happening = world.crash
        world.seam.countdown = step
        # What is emitted between the crash and the restart may get the inode number of what was just removed:
        # with one name alone it does.
        world.crashed = lambda: [world.emit(stem) for stem in stems]
        for _ in range(2):
            for stem in stems:
                world.emit(stem)
            if len(stems) > 1:
                world.tear(stems[0], 1.0)
            for _ in range(5):
                await world.turn()
                world.clock.advance(31)
        await world.finish()
        world.check()

    root = Path(tempfile.mkdtemp(prefix="cl-model-", dir="/tmp"))
    try:
        asyncio.run(life(World(root)))
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("step", range(125))
def test_what_is_emitted_while_the_daemon_is_down_stays_in_order(step: int) -> None:
    """A file on its way out may have to be read again after a crash; what was written to its name since is not
    overtaken meanwhile by what other files tell."""

    async def life(world: World) -> None:
        world.seam.happening = world.crash
        world.seam.countdown = step
        world.crashed = world.chain
        world.chain()
        for _ in range(5):
            await world.turn()
            world.clock.advance(31)
        await world.finish()
        world.check()
        assert [event.data["mark"] for event in world.log._events] == world.causal

    root = Path(tempfile.mkdtemp(prefix="cl-model-", dir="/tmp"))
    try:
        asyncio.run(life(World(root)))
    finally:
        shutil.rmtree(root)

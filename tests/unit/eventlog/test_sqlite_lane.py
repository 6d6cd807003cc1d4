"""One commit is stored while the next is numbered: what readers and publishers see is as if they came one by one."""

import asyncio
import sqlite3
import threading

import pytest

from claude_loop.errors import Busy, Internal, InvalidJson, LogDamaged, StorageFailed
from claude_loop.eventlog import sqlite_commit
from claude_loop.eventlog.base import Chain, NoProjection, nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.eventlog.sqlite_writer import GROUP_EVENTS, LEAST_AHEAD, SIBLINGS, SIBLINGS_LOOKS, SIBLINGS_STEP, Job
from claude_loop.events import Event
from tests.support import PATIENCE
from tests.unit.eventlog.failing_commit import FailingCommit


class Counts(NoProjection):
    """A read model of two kinds: how many events each type has, and how many there are. A run is named after them."""

    def apply(self, events, entities):
        for event in events:
            event.run_id = event.run_id or f"after-{(entities.get('all') or {'count': 0})['count']}"
            for key in (f"type/{event.type}", "all"):
                before = entities.get(key) or {"count": 0}
                entities.put(key, {"count": before["count"] + 1})


class Storage:
    """``insert_events`` under the control of a test: each commit waits for its turn, and may be made to fail."""

    def __init__(self, monkeypatch):
        self.begun = threading.Semaphore(0)
        self.failures = {}
        self._turns = threading.Semaphore(0)
        self._real = sqlite_commit.insert_events
        self._number = 0
        monkeypatch.setattr(sqlite_commit, "insert_events", self._insert)

    def _insert(self, connection, events):
        self._number += 1
        number = self._number
        self.begun.release()
        assert self._turns.acquire(timeout=PATIENCE)
        if number in self.failures:
            raise self.failures[number]
        self._real(connection, events)

    async def has_begun(self):
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE)

    def go_on(self, commits=100):
        self._turns.release(commits)


def events(start, count=GROUP_EVENTS, kind="a.b"):
    return [Event(kind, {"n": n}, id=f"e{n}", prd_id="P", source="test") for n in range(start, start + count)]


def seqs(outcomes):
    return [outcome.seq for outcome in outcomes]


@pytest.fixture
async def log(tmp_path):
    log = SqliteEventLog(tmp_path / "events.db", Counts())
    await log.open(nobody)
    yield log
    async with asyncio.timeout(PATIENCE):
        await log.close()


@pytest.fixture
def storage(monkeypatch):
    return Storage(monkeypatch)


def queued(log, *batches):
    """The answers to batches of which the writer has seen none before it sees all."""
    released = threading.Event()
    log._writer.submit(Job(lambda _writer: released.wait(PATIENCE), lambda _result: None))
    answers = [log.append_made(batch, GROUP_EVENTS) if callable(batch) else log.append(batch) for batch in batches]
    released.set()
    return answers


async def one_under_way(log, storage, *batches):
    """The answers to batches of which the first group is being stored, and the next, which is one batch, is made."""
    made = threading.Event()

    def make():
        made.set()
        return batches[-1]

    answers = queued(log, *batches[:-1], make)
    await storage.has_begun()
    assert await asyncio.to_thread(made.wait, PATIENCE)
    assert not any(answer.done() for answer in answers)
    return answers


async def counts(log):
    return {key: document["count"] for key, document in (await log.entities("")).items()}


async def stored_ids(log):
    stored = (await log.read(0, 10_000)).events
    assert [event.run_id for event in stored] == [f"after-{n}" for n in range(len(stored))]
    return [event.id for event in stored]


async def test_the_next_group_is_made_and_numbered_while_one_is_stored(log, storage):
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        outcomes = [seqs(await answer) for answer in answers]
    assert [seq for each in outcomes for seq in each] == list(range(1, 2 * GROUP_EVENTS + 1))
    assert await counts(log) == {"all": 2 * GROUP_EVENTS, "type/a.b": 2 * GROUP_EVENTS}
    assert await stored_ids(log) == [f"e{n}" for n in range(2 * GROUP_EVENTS)]


async def test_what_is_being_stored_is_known_by_its_id(log, storage):
    again = [*events(7, 1), Event("a.b", {"n": "other"}, id="e8", prd_id="P", source="test"), *events(5000, 600)]
    answers = await one_under_way(log, storage, events(0), again)
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        _, (repeated, conflict, *rest) = [await answer for answer in answers]
    assert (repeated.seq, repeated.duplicate) == (8, True)
    assert conflict.error.code == "id_conflict"
    assert seqs(rest) == list(range(GROUP_EVENTS + 1, GROUP_EVENTS + 601))


@pytest.mark.parametrize("failures", [{1: OSError(5, "I/O error")}, {1: sqlite3.OperationalError("disk I/O error")}])
async def test_a_group_behind_one_that_failed_is_numbered_anew(log, storage, failures):
    storage.failures = failures
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StorageFailed):
            await answers[0]
        assert seqs(await answers[1]) == list(range(1, GROUP_EVENTS + 1))
        assert await stored_ids(log) == [f"e{n}" for n in range(GROUP_EVENTS, 2 * GROUP_EVENTS)]
        assert await counts(log) == {"all": GROUP_EVENTS, "type/a.b": GROUP_EVENTS}
        assert log.failure is None
        # The refused are sent again as they were, and what they bear is their new number.
        sent = events(0, 3)
        storage.failures = {3: OSError(5, "I/O error")}
        with pytest.raises(StorageFailed):
            await log.append(sent)
        assert sent[0].data == {"n": 0}
        assert '"seq":0' in sent[0].json
        assert seqs(await log.append(sent)) == [GROUP_EVENTS + 1, GROUP_EVENTS + 2, GROUP_EVENTS + 3]
    assert (await log.read_backwards(None, 1))[0].data == {"n": 2}


async def test_a_document_that_is_not_in_memory_waits_for_the_commit_under_way(log, storage):
    log._writer.cache._capacity = 1  # of the two that each commit changes
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*answers)
    assert await counts(log) == {"all": 2 * GROUP_EVENTS, "type/a.b": 2 * GROUP_EVENTS}


async def first_of_type(log, storage):
    storage.go_on(1)
    await log.append(events(9000, 1, kind="c.d"))
    await storage.has_begun()
    log._writer.cache.discard()


async def test_a_group_that_waits_for_a_document_of_a_failed_commit_is_numbered_anew(log, storage):
    await asyncio.wait_for(first_of_type(log, storage), PATIENCE)
    storage.failures = {2: OSError(5, "I/O error")}
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS, 600, kind="c.d"))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StorageFailed):
            await answers[0]
        assert seqs(await answers[1]) == list(range(2, 602))
    assert await counts(log) == {"all": 601, "type/c.d": 601}


@pytest.mark.parametrize("happened", [True, False])
async def test_an_unknown_outcome_with_a_group_behind_it(log, storage, happened):
    heard = []
    log._listener = lambda new, _state: heard.extend(event.id for event in new)
    log._writer._connection = FailingCommit(log._writer.connection, commit_first=happened)
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        if happened:
            assert seqs(await answers[0]) == list(range(1, GROUP_EVENTS + 1))
        else:
            with pytest.raises(StorageFailed):
                await answers[0]
        await answers[1]
    ids = [event.id for event in events(0 if happened else GROUP_EVENTS, GROUP_EVENTS * (1 + happened))]
    assert heard == await stored_ids(log) == ids
    assert await counts(log) == {"all": len(ids), "type/a.b": len(ids)}


async def test_a_defect_in_the_commit_under_way_spares_all_others(log, storage):
    half = GROUP_EVENTS // 2
    # The first commit holds two batches, which are then tried one by one.
    storage.failures = {1: RuntimeError("a defect"), 3: RuntimeError("a defect")}
    answers = await one_under_way(log, storage, events(0, half), events(half, half), events(GROUP_EVENTS))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        first, second, third = await asyncio.gather(*answers, return_exceptions=True)
    assert seqs(first) == list(range(1, half + 1))
    assert isinstance(second, Internal)
    assert seqs(third) == list(range(half + 1, half + GROUP_EVENTS + 1))
    assert await counts(log) == {"all": half + GROUP_EVENTS, "type/a.b": half + GROUP_EVENTS}


async def test_a_small_group_waits_for_the_commit_under_way_and_takes_along_what_comes(log, storage):
    small = LEAST_AHEAD // 4
    answers = queued(log, events(0), events(GROUP_EVENTS, small))
    await storage.has_begun()
    answers += [log.append(events(GROUP_EVENTS + n * small, small)) for n in (1, 2)]
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*answers)
        assert (await log.statistics())["commits"] == 2


async def test_a_job_waits_for_the_commit_under_way(log, storage):
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    pruning = asyncio.ensure_future(log.prune(0, 10, 5000))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*answers)
        assert await pruning == 2 * GROUP_EVENTS - 10
    assert await counts(log) == {"all": 2 * GROUP_EVENTS, "type/a.b": 2 * GROUP_EVENTS}


async def test_what_cannot_be_made_costs_the_others_nothing(tmp_path):
    log = SqliteEventLog(tmp_path / "events.db", Counts(), durability="normal")
    await log.open(nobody)
    epoch = log.state.epoch
    async with asyncio.timeout(PATIENCE):
        first, second = await asyncio.gather(*queued(log, events(0, 2), broken), return_exceptions=True)
    assert (seqs(first), second.code) == ([1, 2], "internal")
    assert (await log.statistics())["commits"] == 1
    assert log.state.epoch == epoch  # which a connection opened anew would have changed
    await log.close()


def broken():
    raise RuntimeError("no events")


async def test_what_is_found_damaged_while_a_commit_waits_is_not_written_to(log, storage):
    answers = await one_under_way(log, storage, events(0), events(GROUP_EVENTS))
    log._writer.health.note_damage(LogDamaged("a page is no page"))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        assert seqs(await answers[0]) == list(range(1, GROUP_EVENTS + 1))
        with pytest.raises(LogDamaged):
            await answers[1]
    assert len(await stored_ids(log)) == GROUP_EVENTS


async def test_what_holds_nothing_is_answered_whatever_ails_the_storage(log):
    log._writer.health.note_damage(LogDamaged("a page is no page"))
    async with asyncio.timeout(PATIENCE):
        assert await log.append_made(list, 5) == await log.append([]) == []
        with pytest.raises(LogDamaged):
            await log.append(events(0, 1))


async def test_no_commit_needs_a_thread_that_has_to_be_started(log, monkeypatch):
    """Where processes are counted there may be no room for one more thread."""

    def no_room(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        patch.setattr("claude_loop.eventlog.checkpoints.DUE_PAGES", 1)
        async with asyncio.timeout(PATIENCE):
            outcomes = await asyncio.gather(*queued(log, *(events(n * GROUP_EVENTS) for n in range(3))))
    assert [seq for each in outcomes for seq in seqs(each)] == list(range(1, 3 * GROUP_EVENTS + 1))
    assert log.failure is None


@pytest.mark.parametrize("size", [GROUP_EVENTS, 10])
async def test_of_a_chain_nothing_is_stored_behind_a_commit_that_failed(log, storage, size):
    storage.failures = {1: OSError(5, "I/O error")}
    chain = Chain()
    answers = [log.append_made(lambda: events(0, size), size, (), chain)]
    await storage.has_begun()
    answers += [log.append_made(lambda n=n: events(n * size, size), size, (), chain) for n in (1, 2)]
    answers.append(log.append(events(9000, size)))
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        *refused, other = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(refusal) for refusal in refused] == [StorageFailed] * 3
    assert seqs(other) == list(range(1, size + 1))
    assert await stored_ids(log) == [f"e{n}" for n in range(9000, 9000 + size)]


async def test_what_is_served_again_is_not_refused_for_what_followed_it(log):
    """Somebody else's event has broken the commit, and what came next in the chain could not be made."""
    chain, released = Chain(), threading.Event()

    def broken():
        raise InvalidJson("No JSON.")

    log._writer.submit(Job(lambda _writer: released.wait(PATIENCE), lambda _result: None))
    answers = [
        log.append_made(lambda: events(0, 1), 1, (), chain),
        log.append_made(broken, 1, (), chain),
        log.append([Event("a.b", {"n": "\ud800"}, id="odd", prd_id="P", source="test")]),
        log.append_made(lambda: events(1, 1), 1, (), chain),
    ]
    released.set()
    async with asyncio.timeout(PATIENCE):
        first, *others = await asyncio.gather(*answers, return_exceptions=True)
    assert seqs(first) == [1]
    assert [type(other) for other in others] == [InvalidJson, Internal, InvalidJson]
    assert await stored_ids(log) == ["e0"]


async def test_of_a_chain_nothing_is_queued_behind_what_found_no_room(log, storage, monkeypatch):
    monkeypatch.setattr("claude_loop.eventlog.sqlite.MAX_PENDING", 2 * GROUP_EVENTS)
    chain = Chain()
    answers = [log.append(events(n * GROUP_EVENTS)) for n in range(3)]
    refused = log.append_made(lambda: events(9000, 1), 1, (), chain)
    storage.go_on()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Busy):
            await refused
        await asyncio.gather(*answers)
        with pytest.raises(Busy):  # though there is room by now
            await log.append_made(lambda: events(9001, 1), 1, (), chain)
    assert log.state.head == 3 * GROUP_EVENTS


class Looks:
    """Stands in for the writer's `sleep`: the first one lasts until the test has queued what is to come meanwhile."""

    def __init__(self, monkeypatch):
        self.asleep, self.awake, self.count = threading.Event(), threading.Event(), 0
        monkeypatch.setattr("claude_loop.eventlog.sqlite_writer.sleep", self.sleep)

    def sleep(self, seconds):
        assert seconds == SIBLINGS_STEP
        self.count += 1
        self.asleep.set()
        assert self.awake.wait(PATIENCE)


@pytest.mark.parametrize(("publishers", "commits"), [(SIBLINGS, 2), (SIBLINGS - 1, 3)])
async def test_many_publishers_are_waited_for_and_few_are_not(log, monkeypatch, publishers, commits):
    looks = Looks(monkeypatch)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*queued(log, *(events(n, 1) for n in range(publishers))))
        again = log.append(events(100, 1))
        if publishers >= SIBLINGS:
            assert await asyncio.to_thread(looks.asleep.wait, PATIENCE)
        else:
            await again
        behind = log.append(events(101, 1))
        looks.awake.set()
        assert seqs([*await again, *await behind]) == [publishers + 1, publishers + 2]
    assert (await log.statistics())["commits"] == commits


@pytest.mark.parametrize(("came", "looked"), [(14, 1), (13, SIBLINGS_LOOKS)])
async def test_they_are_waited_for_until_nearly_all_have_come_and_not_for_ever(log, monkeypatch, came, looked):
    looks = Looks(monkeypatch)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*queued(log, *(events(n, 1) for n in range(16))))
        first = log.append(events(100, 1))
        assert await asyncio.to_thread(looks.asleep.wait, PATIENCE)
        others = [log.append(events(100 + n, 1)) for n in range(1, came)]
        looks.awake.set()
        await asyncio.gather(first, *others)
    assert looks.count == looked
    assert (await log.statistics())["commits"] == 2

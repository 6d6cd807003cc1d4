"""One suite over every backend of the event log."""

from __future__ import annotations

import asyncio

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import IdConflict
from claude_loop.eventlog.base import SpoolOffset, nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import Filter
from claude_loop.ids import NO_EVENT, id_digest


class CountingProjection:
    """A read model with one document a PRD: how many events it has, and the first event as its run."""

    def apply(self, events, entities):
        changed = {}
        for event in events:
            if event.prd_id is None:
                continue
            key = f"prd/{event.prd_id}"
            document = changed.get(key) or entities.get(key) or {"count": 0, "run": event.id}
            event.run_id = event.run_id or document["run"]
            changed[key] = {**document, "count": document["count"] + 1}
            if event.data.get("poison"):
                raise ValueError("poison")
        for key, document in changed.items():
            entities.put(key, document)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def log(request, tmp_path, clock):
    if request.param == "memory":
        log = MemoryEventLog(CountingProjection(), clock)
    else:
        log = SqliteEventLog(tmp_path / "events.db", CountingProjection(), clock)
    await log.open(nobody)
    yield log
    await log.close()


def event(number, **fields):
    fields.setdefault("type", "story.started")
    return Event(id=f"e{number}", source="test", at=1000 + number, data=fields.pop("data", {"n": number}), **fields)


async def test_numbers_without_gap_from_one_and_keeps_what_was_published(log):
    outcome = await log.append([event(1, prd_id="P"), event(2, project="shop", session_id="s")])
    assert [(o.seq, o.duplicate, o.error) for o in outcome] == [(1, False, None), (2, False, None)]
    page = await log.read(0, 10)
    assert [(e.seq, e.id, e.prd_id, e.project, e.session_id) for e in page.events] == [
        (1, "e1", "P", None, None),
        (2, "e2", None, "shop", "s"),
    ]
    assert page.events[0].data == {"n": 1}
    assert page.events[0].as_dict() | {"seq": 0} == event(1, prd_id="P", run_id="e1").as_dict() | {
        "received_at": page.events[0].as_dict()["received_at"]
    }
    assert (log.state.first, log.state.head, log.state.head_digest) == (1, 2, id_digest("e2"))


async def test_an_empty_log_has_a_state_and_answers_reads(log):
    assert (log.state.first, log.state.head) == (1, 0)
    assert log.state.head_digest == log.state.trimmed_digest == id_digest(NO_EVENT)
    assert await log.digest_at(0) == id_digest(NO_EVENT)
    assert await log.read(0, 10) == ([], 0, 1)
    assert await log.read_backwards(None, 10) == []
    assert await log.position_since(0) == 0


async def test_repetitions_answer_the_first_seq_and_conflicts_are_refused(log):
    await log.append([event(1, prd_id="P"), event(2)])
    outcome = await log.append([event(1, prd_id="P"), event(3), event(3), event(2, data={"other": True})])
    assert [(o.seq, o.duplicate) for o in outcome[:3]] == [(1, True), (3, False), (3, True)]
    assert isinstance(outcome[3].error, IdConflict)
    assert outcome[3].seq == 0
    assert log.state.head == 3


async def test_the_same_event_under_another_run_is_a_conflict_but_a_missing_run_is_not(log):
    await log.append([event(1, prd_id="P")])
    (same, other) = await log.append([event(1, prd_id="P"), event(1, prd_id="P", run_id="other")])
    assert same.duplicate
    assert isinstance(other.error, IdConflict)


async def test_the_same_holds_within_one_batch(log):
    outcome = await log.append(
        [
            event(1, prd_id="P"),
            event(1, prd_id="P"),
            event(1, prd_id="P", run_id="e1"),
            event(1, prd_id="P", run_id="other"),
        ]
    )
    assert [(o.seq, o.duplicate) for o in outcome[:3]] == [(1, False), (1, True), (1, True)]
    assert isinstance(outcome[3].error, IdConflict)


async def test_the_documents_of_a_commit_are_heard_of_before_its_events(tmp_path, log):
    heard = []
    other = (
        type(log)(tmp_path / "b.db", CountingProjection())
        if isinstance(log, SqliteEventLog)
        else type(log)(CountingProjection())
    )
    other.on_documents = lambda documents, state: heard.append((dict(documents), state.head))
    await other.open(lambda events, state: heard.append((len(events), state.head)))
    await other.append([event(1, prd_id="P"), event(2, prd_id="Q")])
    await other.append([event(3, prd_id="P")])
    await other.append([event(4)])
    await other.append([event(4)])
    p, q = {"count": 1, "run": "e1"}, {"count": 1, "run": "e2"}
    assert heard == [
        ({"prd/P": p, "prd/Q": q}, 2),
        (2, 2),
        ({"prd/P": {**p, "count": 2}}, 3),
        (1, 3),
        ({}, 4),
        (1, 4),
    ]
    await other.close()


async def test_a_snapshot_is_of_one_moment(log):
    await log.append([event(1, prd_id="P"), event(2, prd_id="Q")])
    seq, (found, missing, under) = await log.snapshot(
        lambda stored: (stored.get("prd/P"), stored.get("prd/X"), stored.under("prd/"))
    )
    assert seq == 2
    assert found == {"count": 1, "run": "e1"}
    assert missing is None
    assert list(under) == ["prd/P", "prd/Q"]


async def test_commits_are_announced_in_order_before_the_answers(tmp_path, log):
    heard = []
    log_type = type(log)
    other = log_type(tmp_path / "b.db") if log_type is SqliteEventLog else log_type()
    await other.open(lambda events, state: heard.append(([e.seq for e in events], state.head)))
    futures = [other.append([event(n)]) for n in range(1, 6)]
    for n, future in enumerate(futures, 1):
        assert (await future)[0].seq == n
        assert heard[-1][1] >= n
    assert [seq for seqs, _ in heard for seq in seqs] == [1, 2, 3, 4, 5]
    await other.append([event(1)])
    assert sum(len(seqs) for seqs, _ in heard) == 5  # duplicates alone announce nothing
    await other.close()


async def test_reads_are_bounded_by_count_and_bytes_and_say_how_far_they_searched(log):
    await log.append([event(n, type="a.x" if n % 2 else "b.y") for n in range(1, 11)])
    page = await log.read(2, 3)
    assert [e.seq for e in page.events] == [3, 4, 5]
    assert page.upto == 5
    page = await log.read(0, 100, Filter(types=("a.*",)))
    assert [e.seq for e in page.events] == [1, 3, 5, 7, 9]
    assert page.upto == 10
    size = len(page.events[0].json)
    page = await log.read(0, 100, max_bytes=int(size * 2.5))
    assert [e.seq for e in page.events] == [1, 2]
    assert page.upto == 2
    assert [e.seq for e in (await log.read(0, 100, max_bytes=1)).events] == [1]
    assert (await log.read(10, 5)).upto == 10


FILTERS = [
    (Filter(types=("story.*",)), [1, 2]),
    (Filter(types=("test.run", "story.completed")), [2, 3]),
    (Filter(types=("t?st.run",)), [3]),
    (Filter(types=("[st]*",)), []),
    (Filter(projects=("shop",)), [1, 2, 4]),
    (Filter(prd_ids=("P1",)), [1, 3]),
    (Filter(prd_ids=("P1", "P2")), [1, 2, 3]),
    (Filter(prd_ids=("P1",), or_without_prd=True), [1, 3, 4]),
    (Filter(story_ids=("S1",)), [1]),
    (Filter(session_ids=("s",)), [4]),
    (Filter(run_ids=("r9",)), [3]),
    (Filter(sources=("test",)), [1, 2, 3, 4]),
    (Filter(sources=("other",)), []),
    (Filter(projects=("shop",), prd_ids=("P2",), types=("*",)), [2]),
]


@pytest.mark.parametrize(("filter_", "expected"), FILTERS)
async def test_every_filter_reads_the_same_forwards_backwards_and_in_memory(log, filter_, expected):
    events = [
        event(1, type="story.started", project="shop", prd_id="P1", story_id="S1"),
        event(2, type="story.completed", project="shop", prd_id="P2", story_id="S2"),
        event(3, type="test.run", prd_id="P1", run_id="r9"),
        event(4, type="log.message", project="shop", session_id="s"),
    ]
    await log.append(events)
    assert [e.seq for e in (await log.read(0, 10, filter_)).events] == expected
    assert [e.seq for e in await log.read_backwards(None, 10, filter_)] == expected[::-1]
    assert [e.seq for e in events if filter_.matches(e)] == expected


async def test_backwards_reads_begin_below_a_seq_and_stop_at_the_limit(log):
    await log.append([event(n) for n in range(1, 8)])
    assert [e.seq for e in await log.read_backwards(6, 3)] == [5, 4, 3]
    assert [e.seq for e in await log.read_backwards(None, 2)] == [7, 6]


async def test_text_is_found_regardless_of_case_and_with_special_characters(log):
    texts = ["Alpha", "100% sure", "a_b", 'quote " here', "back\\slash", "ünïcode"]
    await log.append([event(n, data={"text": text}) for n, text in enumerate(texts, 1)])
    for text, expected in [
        ("alpha", [1]),
        ("0% s", [2]),
        ("a_b", [3]),
        ('" here', [4]),
        ("\\slash", [5]),
        ("nïc", [6]),
    ]:
        assert [e.seq for e in (await log.search(0, 10, Filter(), text)).events] == expected, text
        assert [e.seq for e in await log.read_backwards(None, 10, text=text)] == expected, text


async def test_since_is_by_time_received_which_never_decreases(log, clock):
    await log.append([event(1)])
    before = clock.now_us() // 1000
    clock.advance(10)
    await log.append([event(2)])
    clock.step_wall(-3600)
    await log.append([event(3)])
    events = (await log.read(0, 10)).events
    assert [e.received_at for e in events] == [before, before + 10_000, before + 10_000]
    assert await log.position_since(before) == 0
    assert await log.position_since(before + 1) == 1
    assert await log.position_since(before + 10_001) == 3


async def test_offsets_are_stored_with_the_events_and_forgotten_on_request(log):
    await log.append([event(1)], [SpoolOffset("a.jsonl", 7, 100), SpoolOffset("b.jsonl", 8, 5)])
    await log.append([], [SpoolOffset("a.jsonl", 7, 250)])
    assert sorted(await log.spool_offsets()) == [("a.jsonl", 7, 250), ("b.jsonl", 8, 5)]
    await log.append([event(2)], [SpoolOffset("b.jsonl", 8, None)])
    assert await log.spool_offsets() == [("a.jsonl", 7, 250)]


async def test_the_read_model_follows_and_fills_in_the_run(log):
    await log.append([event(1, prd_id="P"), event(2, prd_id="Q"), event(3, prd_id="P"), event(4)])
    assert await log.entities("prd/") == {"prd/P": {"count": 2, "run": "e1"}, "prd/Q": {"count": 1, "run": "e2"}}
    assert await log.entities("prd/Q") == {"prd/Q": {"count": 1, "run": "e2"}}
    assert [e.run_id for e in (await log.read(0, 10)).events] == ["e1", "e2", "e1", None]
    assert (await log.read(0, 10, Filter(run_ids=("e1",)))).events[1].seq == 3


async def test_an_event_that_breaks_the_projection_is_stored_all_the_same(log):
    outcome = await log.append([event(1, prd_id="P"), event(2, prd_id="P", data={"poison": 1}), event(3, prd_id="P")])
    assert [o.seq for o in outcome] == [1, 2, 3]
    assert (await log.entities("prd/"))["prd/P"] == {"count": 2, "run": "e1"}
    assert [e.run_id for e in (await log.read(0, 10)).events] == ["e1", None, "e1"]
    assert await log.rebuild() == 3
    assert (await log.entities("prd/"))["prd/P"]["count"] == 2
    assert await log.prune(0, 1, 10) == 2
    assert (await log.trimmed_entities("prd/"))[1]["prd/P"]["count"] == 1


async def test_pruning_by_count_keeps_the_edge_and_the_read_model(log):
    await log.append([event(n, prd_id="P") for n in range(1, 11)])
    edge = id_digest("e6")
    assert await log.prune(0, 4, 100) == 6
    assert await log.prune(0, 4, 100) == 0
    assert (log.state.first, log.state.head, log.state.trimmed_digest) == (7, 10, edge)
    assert await log.digest_at(6) == edge
    assert await log.digest_at(5) is None
    assert await log.trimmed_entities("prd/") == (6, {"prd/P": {"count": 6, "run": "e1"}})
    assert await log.trimmed_entities("prd/Q") == (6, {})
    page = await log.read(0, 100)
    assert ([e.seq for e in page.events], page.first) == ([7, 8, 9, 10], 7)
    before = await log.entities("")
    assert await log.rebuild() == 4
    assert await log.entities("") == before == {"prd/P": {"count": 10, "run": "e1"}}


async def test_pruning_by_age_goes_in_small_steps(log, clock):
    await log.append([event(n) for n in range(1, 8)])
    clock.advance(60)
    await log.append([event(8)])
    limit = clock.now_us() // 1000
    assert [await log.prune(limit, 1000, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert (log.state.first, log.state.head) == (8, 8)
    assert await log.prune(limit + 1, 1000, 3) == 1
    assert (log.state.first, log.state.head, log.state.head_digest) == (9, 8, id_digest("e8"))
    assert (await log.append([event(9)]))[0].seq == 9


async def test_a_pruned_id_may_be_used_again(log):
    await log.append([event(1), event(2)])
    await log.prune(0, 1, 10)
    outcome = await log.append([event(1, data={"new": True}), event(2)])
    assert [(o.seq, o.duplicate) for o in outcome] == [(3, False), (2, True)]


async def test_rebuild_equals_what_was_kept_along_the_way(log):
    for start in range(0, 2500, 500):
        await log.append([event(n, prd_id=f"P{n % 7}") for n in range(start, start + 500)])
    kept = await log.entities("")
    assert await log.rebuild() == 2500
    assert await log.entities("") == kept
    await log.append([event(9999, prd_id="P1")])
    assert (await log.entities("prd/P1"))["prd/P1"]["count"] == kept["prd/P1"]["count"] + 1


async def test_many_publishers_at_once_share_commits_and_keep_their_own_order(log):
    async def publish(name):
        return [(await log.append([Event("a.b", {}, id=f"{name}-{n}", source="t")]))[0].seq for n in range(50)]

    seqs = await asyncio.gather(*(publish(name) for name in range(20)))
    assert sorted(seq for one in seqs for seq in one) == list(range(1, 1001))
    assert all(one == sorted(one) for one in seqs)


async def test_statistics_count_what_is_kept(log):
    await log.append([event(n) for n in range(1, 4)])
    await log.prune(0, 2, 10)
    statistics = await log.statistics()
    assert statistics["events"] == 2
    assert statistics["bytes"] > 0

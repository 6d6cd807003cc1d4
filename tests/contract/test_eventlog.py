"""One suite over every backend of the event log."""

from __future__ import annotations

import asyncio

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import IdConflict, Internal, InvalidJson, LoadError
from claude_loop.eventlog.base import Chain, NoProjection, SpoolOffset, nobody
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.filters import FILTER_KEYS, Filter
from claude_loop.ids import NO_EVENT, id_digest


class CountingProjection(NoProjection):
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


async def test_events_that_are_made_when_they_are_due(log):
    made = [event(1), event(2, prd_id="P")]
    assert told(await log.append_made(lambda: made, 5)) == [(1, False), (2, False)]
    assert told(await log.append([event(2, prd_id="P")])) == [(2, True)]
    assert await log.append_made(list, 5) == []

    def broken():
        raise RuntimeError("a defect")

    with pytest.raises(Internal, match="a defect"):
        await log.append_made(broken, 5)
    assert told(await log.append([event(3)])) == [(3, False)]


async def test_what_is_refused_while_it_is_made_is_refused_so(log):
    def refused():
        raise InvalidJson("No JSON.")

    with pytest.raises(InvalidJson, match="No JSON"):
        await log.append_made(refused, 5)
    assert told(await log.append([event(1)])) == [(1, False)]


async def test_of_a_chain_nothing_is_stored_behind_what_was_not(log):
    chain = Chain()

    def broken():
        raise RuntimeError("a defect")

    answers = [
        log.append_made(lambda: [event(1)], 1, [SpoolOffset("a.jsonl", 7, 1)], chain),
        log.append_made(broken, 1, [SpoolOffset("a.jsonl", 7, 2)], chain),
        log.append_made(lambda: [event(3)], 1, [SpoolOffset("a.jsonl", 7, 3)], chain),
        log.append_made(list, 0, [SpoolOffset("a.jsonl", 7, 4)], chain),
        log.append_made(lambda: [event(4)], 1),
    ]
    first, *refused, other = await asyncio.gather(*answers, return_exceptions=True)
    assert told(first) == [(1, False)]
    assert [type(refusal) for refusal in refused] == [Internal, Internal, Internal]
    assert told(other) == [(2, False)]
    assert await log.spool_offsets() == [SpoolOffset("a.jsonl", 7, 1)]
    with pytest.raises(Internal, match="a defect"):  # for good
        await log.append_made(lambda: [event(3)], 1, (), chain)
    assert told(await log.append_made(lambda: [event(3)], 1, (), Chain())) == [(3, False)]


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


@pytest.mark.parametrize("key", FILTER_KEYS.values(), ids=list(FILTER_KEYS))
async def test_every_key_of_a_filter_is_known_to_the_log(log, key):
    values = dict.fromkeys(("project", "prd_id", "story_id", "run_id", "session_id", "source"), "x")
    other = Event("other.type", {}, id="other", at=1, **values)
    wanted = Event(
        "wanted", {}, id="wanted", at=1, **(values | ({key.attribute: "wanted"} if key.attribute in values else {}))
    )
    await log.append([other, wanted])
    selected = Filter(**{key.name: ("wanted",)})
    assert [event.id for event in (await log.read(0, 10, selected)).events] == ["wanted"]
    assert [event.id for event in await log.read_backwards(None, 10, selected)] == ["wanted"]


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


async def test_a_search_can_be_bounded_to_what_is_near(log):
    await log.append([event(n, data={"text": "yes" if n in (2, 5, 9) else "no"}) for n in range(1, 10)])
    page = await log.search(0, 10, Filter(), "yes", within=4)
    assert ([e.seq for e in page.events], page.upto) == ([2], 4)
    page = await log.search(4, 1, Filter(), "yes", within=4)
    assert ([e.seq for e in page.events], page.upto) == ([5], 5)
    page = await log.search(5, 10, Filter(), "yes", within=100)
    assert ([e.seq for e in page.events], page.upto) == ([9], 9)
    assert [e.seq for e in await log.read_backwards(None, 10, text="yes", within=5)] == [9, 5]
    assert [e.seq for e in await log.read_backwards(5, 10, text="yes", within=2)] == []
    assert [e.seq for e in await log.read_backwards(5, 10, text="yes", within=3)] == [2]


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
    await log.append_made(lambda: [event(1)], 1, [SpoolOffset("a.jsonl", 7, 100), SpoolOffset("b.jsonl", 8, 5)])
    await log.append_made(list, 0, [SpoolOffset("a.jsonl", 7, 250)])
    assert sorted(await log.spool_offsets()) == [("a.jsonl", 7, 250), ("b.jsonl", 8, 5)]
    await log.append_made(lambda: [event(2)], 1, [SpoolOffset("b.jsonl", 8, None)])
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


def commit(id_, source, hash_="abcdef1234567890", **fields):
    fields.setdefault("prd_id", "P")
    return Event("commit.created", {"commit_hash": hash_}, id=id_, source=source, at=1000, **fields)


def a_test_run(id_, source, passed=3, failed=0, at=1000, **fields):
    fields.setdefault("prd_id", "P")
    return Event("test.run", {"passed": passed, "failed": failed}, id=id_, source=source, at=at, **fields)


def used(id_, source, at=1000, **data):
    return Event("usage.reported", data, id=id_, source=source, at=at, prd_id="P")


def told(outcomes):
    return [(o.seq, o.duplicate) for o in outcomes]


async def test_a_commit_that_several_report_is_one_event(log):
    first = await log.append([commit("h", "claude", "abcdef1"), commit("g", "git"), commit("s", "bash", "ABCDEF12")])
    assert told(first) == [(1, False), (1, True), (1, True)]
    # Retried, each is a repetition still; and the second time that a source tells it, it is another event.
    again = await log.append([commit("g", "git"), commit("h", "claude", "abcdef1"), commit("s", "bash", "ABCDEF12")])
    assert told(again) == [(1, True)] * 3
    assert told(await log.append([commit("h2", "claude"), commit("g2", "git")])) == [(2, False), (2, True)]
    assert log.state.head == 2


@pytest.mark.parametrize(
    "other",
    [
        {"prd_id": "Q"},
        {"project": "shop"},
        {"hash_": "abcdef2234567890"},
        {"hash_": "abcdef"},  # shorter than git abbreviates: perhaps another's
        {"hash_": 7},
        {"source": "claude"},
        {"story_id": "US-2", "source": "bash"},
    ],
    ids=str,
)
async def test_another_commit_is_another_event(log, other):
    await log.append([commit("h", "claude", story_id="US-1")])
    (outcome,) = await log.append([commit("g", **{"source": "git", **other})])
    assert (outcome.seq, outcome.duplicate) == (2, False)


async def test_a_test_run_that_several_report_is_one_event(log):
    first = [a_test_run("h", "claude"), a_test_run("o", "output", at=60_000), a_test_run("s", "bash", story_id="US-1")]
    assert told(await log.append(first)) == [(1, False), (1, True), (1, True)]
    second = [a_test_run("h2", "claude", at=20_000), a_test_run("o2", "output", at=21_000)]
    assert told(await log.append(second)) == [(2, False), (2, True)]
    assert told(await log.append([a_test_run("o", "output", at=60_000)])) == [(1, True)]


@pytest.mark.parametrize(
    "other",
    [{"at": 61_001}, {"passed": 4}, {"failed": 1}, {"run_id": "R2"}, {"source": "claude"}, {"story_id": "US-2"}],
    ids=str,
)
async def test_another_test_run_is_another_event(log, other):
    await log.append([a_test_run("h", "claude", run_id="R1", story_id="US-1")])
    (outcome,) = await log.append([a_test_run("o", **{"source": "output", **other})])
    assert (outcome.seq, outcome.duplicate) == (2, False)


async def test_what_an_agent_used_that_several_report_is_one_event(log):
    first = [used("o", "output", cost_usd=0.07312, input_tokens=9), used("s", "bash", cost_usd=0.0731, at=59_000)]
    assert told(await log.append(first)) == [(1, False), (1, True)]
    others = [
        used("s2", "bash", cost_usd=0.0731),
        used("o2", "output", cost_usd=0.0732),
        used("s3", "bash", cost_usd=0.0731, at=61_000),
    ]
    assert [outcome.duplicate for outcome in await log.append(others)] == [False] * 3
    tokens = [used(source, source, input_tokens=5, output_tokens=6) for source in ("codex", "bash")]
    assert told(await log.append(tokens)) == [(5, False), (5, True)]
    strange = [used(f"{source}-x", source, cost_usd="0.5") for source in ("codex", "bash")]
    assert told(await log.append(strange)) == [(6, False), (7, False)]


async def test_without_prd_a_project_is_enough_and_without_both_nothing_is_compared(log):
    in_project = [commit(source, source, prd_id=None, project="shop") for source in ("claude", "git")]
    assert told(await log.append(in_project)) == [(1, False), (1, True)]
    nowhere = [commit(f"{source}2", source, prd_id=None) for source in ("claude", "git")]
    assert told(await log.append(nowhere)) == [(2, False), (3, False)]


async def test_facts_in_a_form_that_nobody_can_compare_are_stored(log):
    strange = [Event(type_, data, id=f"{type_}{source}{n}", prd_id="P", source=source)
               for n, (type_, data) in enumerate([("test.run", {"passed": "3", "failed": None}), ("test.run", {}),
                                                  ("commit.created", {}), ("commit.created", {"commit_hash": []})])
               for source in ("bash", "git")]  # fmt: skip
    assert [o.duplicate for o in await log.append(strange)] == [False] * 8


async def test_what_was_trimmed_or_forgotten_is_no_fact_any_more(log):
    await log.append([commit("h", "claude")])
    assert await log.prune(0, 0, 10) == 1
    assert told(await log.append([commit("g", "git")])) == [(2, False)]
    await log.append([Event("prd.forgotten", {}, id="f", prd_id="P", source="daemon")])
    assert told(await log.append([commit("s", "bash"), commit("o", "output")])) == [(4, False), (4, True)]


async def test_facts_are_found_again_after_a_restart(tmp_path):
    path = tmp_path / "events.db"
    log = SqliteEventLog(path, CountingProjection(), ManualClock())
    await log.open(nobody)
    stored = [commit("h", "claude"), a_test_run("t", "output"), used("u", "output", cost_usd=1)]
    await log.append([*stored, *(event(n, prd_id="P") for n in range(50))])
    await log.append([Event("prd.forgotten", {}, id="f", prd_id="Q", source="daemon"), commit("q", "bash", prd_id="Q")])
    await log.close()
    log = SqliteEventLog(path, CountingProjection(), ManualClock())
    await log.open(nobody)
    again = [
        commit("g", "git"),
        a_test_run("s", "bash"),
        used("v", "bash", cost_usd=1),
        commit("q2", "git", prd_id="Q"),
    ]
    assert told(await log.append(again)) == [(1, True), (2, True), (3, True), (55, True)]
    await log.close()


async def test_after_a_rollback_what_was_not_stored_is_no_fact(tmp_path, monkeypatch):
    log = SqliteEventLog(tmp_path / "events.db", CountingProjection(), ManualClock())
    await log.open(nobody)
    await log.append([event(1, prd_id="P"), commit("a", "bash", "1234567")])

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("claude_loop.eventlog.sqlite_commit.insert_events", full)
        with pytest.raises(LoadError):
            await log.append([commit("h", "claude"), commit("b", "git", "1234567")])
    assert told(await log.append([commit("g", "git"), commit("h", "claude")])) == [(3, False), (3, True)]
    assert told(await log.append([commit("c", "git", "1234567")])) == [(2, True)]
    await log.close()


async def test_the_facts_kept_in_mind_are_bounded(log, monkeypatch):
    monkeypatch.setattr("claude_loop.eventlog.facts.MOST_TESTS", 4)
    monkeypatch.setattr("claude_loop.eventlog.facts.MOST_PRDS", 2)
    await log.append([a_test_run(f"n{n}", "bash", passed=n // 2) for n in range(10)])
    assert told(await log.append([a_test_run("a", "git", passed=0), a_test_run("b", "git", passed=4)])) == [
        (11, False),
        (9, True),
    ]
    for prd in ("X", "Y", "Z"):
        await log.append([commit(f"h{prd}", "claude", prd_id=prd)])
    for prd in ("X", "Y", "Z"):  # those of X are found in the log again
        assert [o.duplicate for o in await log.append([commit(f"g{prd}", "git", prd_id=prd)])] == [True]

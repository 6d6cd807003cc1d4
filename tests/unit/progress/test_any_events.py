"""Whatever comes out of a spool: the reducer never raises, never cheats, and gives the same again."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.events import Event
from claude_loop.progress.keys import KEPT, RUNS, STORIES
from claude_loop.progress.parts import RunState, StoryState
from claude_loop.progress.passing import shown_by_key
from claude_loop.progress.patches import PatchMaker, apply_patches
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.reducer import RULES, fold_one
from claude_loop.progress.session_rules import RULES as SESSION_RULES
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, Documents

KEYS = [
    "success",
    "status",
    "passed",
    "failed",
    "total",
    "failures",
    "commit_hash",
    "subject",
    "story_id",
    "title",
    "total_stories",
    "owner",
    "pid",
    "for",
    "reason",
    "until",
    "iteration",
    "max_iterations",
    "current",
    "message",
    "error",
    "exit_code",
    "duration_ms",
    "stories",
    "cost_usd",
    "input_tokens",
    "cumulative",
    "tool",
    "summary",
    "call_id",
    "agent_id",
    "prompt",
    "origin",
    "_invalid",
]
numbers = st.one_of(st.integers(-2, 12), st.integers(), st.floats(allow_nan=True, allow_infinity=True))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=8),
    st.sampled_from(["true", "failed", "completed", "human", "rate_limit", "2026-01-26T13:00:00Z", "US-1", "x" * 5000]),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "pid", "boot_id", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)
# Half of the data is what its type expects, so that the random walk gets somewhere.
plausible = st.fixed_dictionaries(
    {},
    optional={
        "success": st.booleans(),
        "passed": st.integers(0, 9),
        "failed": st.integers(0, 2),
        "commit_hash": st.just("abc123d"),
        "total_stories": st.integers(0, 4),
        "iteration": st.integers(0, 9),
        "for": st.sampled_from(["human", "rate_limit", "other"]),
        "until": st.integers(START_MS, START_MS + 2_000_000),
        "mentions": st.lists(st.sampled_from(["US-1", "US-2", "US-9", 7]), max_size=2),
        "owner": st.fixed_dictionaries({"pid": st.integers(1, 3)}),
        "pid": st.integers(1, 3),
        "current": st.integers(0, 9),
        "cost_usd": st.sampled_from([0.1, 0.2, 7]),
        "cumulative": st.booleans(),
        "total": st.integers(0, 9),
        "tool": st.sampled_from(["Bash", "Edit"]),
        "call_id": st.sampled_from(["c1", "c2"]),
        "agent_id": st.sampled_from(["a1", "a2"]),
        "stories": st.lists(
            st.fixed_dictionaries(
                {"story_id": st.sampled_from(["US-1", "US-2", "US/3"])},
                optional={
                    "priority": st.integers(0, 3),
                    "passes": st.booleans(),
                    "title": st.just("Cart"),
                    "depends_on": st.lists(st.sampled_from(["US-1", "US-2", "US/3", "US-9"]), max_size=3),
                },
            ),
            max_size=3,
        ),
    },
)
drafts = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [*RULES, *SESSION_RULES, "log.message", "alert.sent", "control.stop", "my.own", "system.x"]
        ),
        "data": st.one_of(plausible, st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6)),
        "project": st.sampled_from([None, "shop"]),
        "prd_id": st.sampled_from(["PRD-1", "PRD-1", "PRD-1", "PRD/2", None]),
        "story_id": st.sampled_from([None, "US-1", "US-2", "US/3"]),
        "run_id": st.sampled_from([None, None, None, None, "R1", "R2"]),
        "session_id": st.sampled_from([None, None, "S1", "S2"]),
        "source": st.sampled_from(["bash", "bash", "git", "claude"]),
        "at": st.integers(-400_000, 400_000),
    }
)
streams = st.lists(drafts, min_size=1, max_size=30)


def events_of(stream: list[dict[str, Any]]) -> list[Event]:
    """As the log hands them over: numbered, received at times that never decrease."""
    events = []
    for n, given_ in enumerate(stream, start=1):
        fields = {**given_, "data": copy.deepcopy(given_["data"])}
        received = START_MS + n * 60_000
        fields["at"] = max(0, received + fields["at"])
        events.append(Event(fields.pop("type"), fields.pop("data"), id=f"e{n}", seq=n, received_at=received, **fields))
    return events


def folded(events: list[Event]) -> Documents:
    documents, projection = Documents(), ProgressProjection()
    for event in events:
        projection.apply((event,), documents)
    return documents


@given(streams)
def test_never_raises_and_changes_nothing_in_place(stream: list[dict[str, Any]]):
    documents = Documents()
    for event in events_of(stream):
        before = copy.deepcopy(documents)
        data = copy.deepcopy(event.data)
        changed = fold_one(event, documents.get)
        assert documents == before
        assert repr(event.data) == repr(data)
        documents.update(changed)
    orjson.dumps(documents)


@given(streams)
def test_a_rebuild_from_what_was_stored_gives_the_same(stream: list[dict[str, Any]]):
    events = events_of(stream)
    first = folded(events)
    assert folded(events) == first  # these have the run ids that the first pass filled in
    assert folded(events_of(stream)) == first  # and these are as their publishers sent them


# Many stories, done and undone again, so that the claims of a run come and go beyond what is kept of them.
busy = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["story.completed"] * 4
                + ["story.started", "test.run", "commit.created", "story.blocked", "tool.started"]
            ),
            "data": plausible,
            "project": st.none(),
            "prd_id": st.just("PRD-1"),
            "story_id": st.sampled_from([f"US-{n}" for n in range(9)]),
            "run_id": st.none(),
            "session_id": st.none(),
            "at": st.integers(-400_000, 400_000),
        }
    ),
    min_size=20,
    max_size=60,
)


@given(st.one_of(streams, busy), st.data())
def test_however_events_are_cut_into_commits_the_documents_are_the_same(
    stream: list[dict[str, Any]], data: st.DataObject
):
    events, together, projection = events_of(stream), Documents(), ProgressProjection()
    start = 0
    while start < len(events):
        end = start + data.draw(st.integers(1, 40))
        projection.apply(events[start:end], together)
        start = end
    one_by_one = events_of(stream)
    assert together == folded(one_by_one)
    assert [(e.run_id, e.story_id) for e in events] == [(e.run_id, e.story_id) for e in one_by_one]


@given(streams)
def test_the_stream_of_patches_shows_the_documents_as_they_stand(stream: list[dict[str, Any]]):
    documents, patched, projection = Documents(), {}, ProgressProjection()
    maker = PatchMaker(STALLED_AFTER_MS)
    moments = [0]
    for event in events_of(stream):
        patches = maker.event(event)
        moments += [patch["at"] for patch in patches]
        apply_patches(patched, orjson.loads(orjson.dumps(patches)))
        projection.apply((event,), documents)
        now = max(moments[-1], min(event.at, event.received_at))
        shown = {key: document for key, document in documents.items() if not key.startswith(KEPT)}
        assert patched.keys() == shown.keys()
        for key, document in shown.items():
            assert patched[key] == shown_by_key(key, document, now, STALLED_AFTER_MS)
    assert moments == sorted(moments)


@given(streams)
def test_counts_and_states_agree_with_the_stories(stream: list[dict[str, Any]]):
    documents = folded(events_of(stream))
    counted = {"done·claimed": "claimed", "done·verified": "verified"}
    for key, run in documents.items():
        if not key.startswith(RUNS):
            continue
        prefix = STORIES + key.removeprefix(RUNS) + "/"
        stories = [document for name, document in documents.items() if name.startswith(prefix)]
        expected = dict.fromkeys(run["counts"], 0)
        for story in stories:
            assert story["state"] in StoryState.__args__
            expected[counted.get(story["state"], story["state"])] += 1
        expected["todo"] += max(0, (run["total_stories"] or 0) - len(stories))
        assert run["counts"] == expected
        assert run["stories"] == len(stories)
        assert run["state"] in RunState.__args__
        assert (run["state"] == "done·verified") <= all(story["state"] == "done·verified" for story in stories)
        assert bool(run["why"]) == (run["state"] in ("failed", "done·claimed"))
        assert run["number"] <= documents["prd/" + key.removeprefix(RUNS).rpartition("/")[0]]["runs"]

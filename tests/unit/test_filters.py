from fnmatch import fnmatchcase

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.errors import InvalidFilter
from claude_loop.events import Event
from claude_loop.filters import FILTER_KEYS, MATCH_ALL, MAX_STARS, MAX_VALUES, Filter

EVENT = Event(
    "story.started", {}, id="e", project="shop", prd_id="P1", story_id="S1", run_id="r", session_id="s", source="bash"
)


def test_the_empty_filter_matches_everything():
    assert Filter.parse(None) == Filter.parse({}) == MATCH_ALL
    assert MATCH_ALL.matches(EVENT)
    assert MATCH_ALL.is_empty


@pytest.mark.parametrize(
    ("raw", "matches"),
    [
        ({"types": ["story.*"]}, True),
        ({"types": "story.started"}, True),
        ({"types": ["*"]}, True),
        ({"types": ["st?ry.*"]}, True),
        ({"types": ["story"]}, False),
        ({"types": ["story.[s]*"]}, False),
        ({"types": ["test.*", "story.started"]}, True),
        (
            {
                "projects": ["shop"],
                "prd_ids": ["P1"],
                "story_ids": ["S1"],
                "run_ids": ["r"],
                "session_ids": ["s"],
                "sources": ["bash"],
            },
            True,
        ),
        ({"projects": ["shop"], "prd_ids": ["P2"]}, False),
        ({"sources": ["cli", "bash"]}, True),
        ({"session_ids": ["other"]}, False),
    ],
)
def test_keys_must_all_hold_and_their_values_are_alternatives(raw, matches):
    assert Filter.parse(raw).matches(EVENT) is matches


def test_widened_to_events_without_a_prd():
    wide = Filter(prd_ids=("P2",), or_without_prd=True)
    assert wide.matches(Event("a.b", {}, id="e"))
    assert not wide.matches(EVENT)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("story.*", "filter"),
        ([], "filter"),
        ({"type": ["x"]}, "filter.type"),
        ({"or_without_prd": ["x"]}, "filter.or_without_prd"),
        ({"types": 3}, "filter.types"),
        ({"types": [3]}, "filter.types"),
        ({"types": [""]}, "filter.types"),
        ({"projects": ["x" * 129]}, "filter.projects"),
        ({"projects": ["x"] * (MAX_VALUES + 1)}, "filter.projects"),
        ({3: ["x"]}, "filter.3"),
    ],
)
def test_nonsense_is_refused_with_its_key(raw, field):
    with pytest.raises(InvalidFilter) as refusal:
        Filter.parse(raw)
    assert refusal.value.field == field
    assert refusal.value.hint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(FILTER_KEYS)), inner),
    )
)
def test_any_json_is_a_filter_or_refused(raw):
    try:
        Filter.parse(raw).matches(EVENT)
    except InvalidFilter as refusal:
        assert refusal.field.startswith("filter")


def test_equal_filters_share_a_key_whatever_the_order_of_values():
    assert Filter(types=("a", "b")).key == Filter(types=("b", "a")).key
    assert (
        len(
            {
                Filter().key,
                Filter(types=("a",)).key,
                Filter(projects=("a",)).key,
                Filter(prd_ids=("a",)).key,
                Filter(prd_ids=("a",), or_without_prd=True).key,
            }
        )
        == 5
    )


@given(st.text("ab.*?", max_size=12), st.text("ab.", max_size=16))
def test_globs_mean_what_they_mean_elsewhere(pattern, type_):
    event = Event(type_, {}, id="e")
    assert Filter(types=(pattern,)).matches(event) == fnmatchcase(type_, pattern) or not pattern


@pytest.mark.timeout(10)
def test_a_pattern_of_many_stars_takes_no_time():
    stars = Filter(types=("*a" * 60 + "b",))
    assert not any(stars.matches(Event("a" * 128, {}, id="e")) for _ in range(100))


SOME = st.sampled_from([(), ("a",), ("b", "c")])


@given(
    st.builds(
        Filter,
        types=st.sampled_from([(), ("a.b",), ("a.*",), ("?.b", "a.c"), ("z.z",)]),
        prd_ids=SOME,
        story_ids=SOME,
        sources=SOME,
        or_without_prd=st.booleans(),
    ),
    st.lists(
        st.builds(
            Event,
            st.sampled_from(["a.b", "a.c", "b.b"]),
            prd_id=st.sampled_from([None, "a", "b"]),
            story_id=st.sampled_from([None, "a", "c"]),
            source=st.sampled_from(["a", "b"]),
        )
    ),
)
def test_of_a_batch_are_selected_those_that_match_one_by_one(filter_, events):
    assert filter_.select(events) == [event for event in events if filter_.matches(event)]


def test_a_glob_has_a_bounded_number_of_stars():
    assert Filter.parse({"types": ["*a" * MAX_STARS], "prd_ids": ["*" * 100]}).types
    with pytest.raises(InvalidFilter, match=f"at most {MAX_STARS}"):
        Filter.parse({"types": ["x", "*a" * MAX_STARS + "*"]})

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_loop.progress.keys import prd_key, project_key, run_key, runs_prefix, stories_prefix, story_key

ids = st.text(alphabet=st.sampled_from("a/%*~. é\ud800"), max_size=4)
projects = st.one_of(st.none(), ids)


def test_keys_can_be_read_by_people():
    assert story_key("shop", "PRD-001", "R1", "US-001") == "story/shop/PRD-001/R1/US-001"
    assert run_key(None, "a/b", "é") == "run/*/a%2Fb/%C3%A9"
    assert project_key("*") == "project/%2A"


@given(st.tuples(projects, ids, ids, ids), st.tuples(projects, ids, ids, ids))
def test_different_names_have_different_keys_and_prefixes_hold_their_own_only(one, other):
    assert (prd_key(*one[:2]) == prd_key(*other[:2])) == (one[:2] == other[:2])
    assert (run_key(*one[:3]) == run_key(*other[:3])) == (one[:3] == other[:3])
    assert (story_key(*one) == story_key(*other)) == (one == other)
    assert run_key(*one[:3]).startswith(runs_prefix(*other[:2])) == (one[:2] == other[:2])
    assert story_key(*one).startswith(stories_prefix(*other[:3])) == (one[:3] == other[:3])

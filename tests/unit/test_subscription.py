"""Where a subscription may begin, as clients say it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.errors import InvalidCursor
from claude_loop.ids import Cursor
from claude_loop.subscription import FROM_START, MAX_LAST, NOW, Start

CURSOR = Cursor("0123456789abcdef", 42, "0123456789")


@pytest.mark.parametrize(
    ("raw", "start"),
    [
        (None, NOW),
        ("now", NOW),
        ("start", FROM_START),
        ({"last": 0}, Start("last", last=0)),
        ({"last": MAX_LAST}, Start("last", last=MAX_LAST)),
        ({"since": "2026-01-26T12:00:00Z"}, Start("since", since_ms=1_769_428_800_000)),
        ({"since": "2026-01-26T13:00:00.5+01:00"}, Start("since", since_ms=1_769_428_800_500)),
        ({"since": 1_769_428_800}, Start("since", since_ms=1_769_428_800_000)),
        ({"since": 1_769_428_800_000}, Start("since", since_ms=1_769_428_800_000)),
        ({"since": 0}, Start("since", since_ms=0)),
        (str(CURSOR), Start("cursor", cursor=CURSOR)),
    ],
)
def test_the_forms_it_may_have(raw, start):
    assert Start.parse(raw) == start


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("", "from"),
        ("yesterday", "from"),
        ("NOW", "from"),
        (str(CURSOR) + " ", "from"),
        (42, "from"),
        (True, "from"),
        ([], "from"),
        (["now"], "from"),
        ({}, "from"),
        ({"last": 1, "since": 1}, "from"),
        ({"first": 1}, "from"),
        ({"last": -1}, "from.last"),
        ({"last": MAX_LAST + 1}, "from.last"),
        ({"last": 1.0}, "from.last"),
        ({"last": True}, "from.last"),
        ({"last": "5"}, "from.last"),
        ({"last": None}, "from.last"),
        ({"since": "10m"}, "from.since"),
        ({"since": "2026-01-26"}, "from.since"),
        ({"since": "2026-13-26T12:00:00Z"}, "from.since"),
        ({"since": -1}, "from.since"),
        ({"since": math.inf}, "from.since"),
        ({"since": math.nan}, "from.since"),
        ({"since": 10**400}, "from.since"),
        ({"since": True}, "from.since"),
        ({"since": None}, "from.since"),
        ({"since": ["2026-01-26T12:00:00Z"]}, "from.since"),
    ],
)
def test_anything_else_is_refused_with_its_field_and_a_hint(raw, field):
    with pytest.raises(InvalidCursor) as refusal:
        Start.parse(raw)
    assert refusal.value.field == field
    assert refusal.value.hint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["last", "since"]), inner),
    max_leaves=5,
)


@given(JSON | st.dictionaries(st.sampled_from(["last", "since"]), JSON, min_size=1, max_size=1))
def test_no_value_does_anything_but_parse_or_be_refused(raw):
    try:
        start = Start.parse(raw)
    except InvalidCursor:
        return
    assert start.kind in {"now", "start", "last", "since", "cursor"}
    assert 0 <= start.last <= MAX_LAST
    assert start.since_ms >= 0
    assert (start.cursor is not None) == (start.kind == "cursor")

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.clock import ManualClock, SystemClock
from claude_loop.errors import InvalidCursor
from claude_loop.ids import Cursor, id_digest, new_epoch, new_event_id


def test_ids_made_later_sort_later():
    clock = ManualClock()
    ids = []
    for _ in range(50):
        ids.append(new_event_id(clock))
        clock.advance(0.001)
    assert ids == sorted(set(ids))
    assert len({new_event_id(SystemClock()) for _ in range(1000)}) == 1000


@given(st.integers(0, 10**17), st.text(min_size=1))
def test_cursors_read_back(seq, event_id):
    cursor = Cursor.at(new_epoch(SystemClock()), seq, event_id)
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text())
def test_no_text_crashes_the_parser(text):
    try:
        assert str(Cursor.parse(text)) == text
    except InvalidCursor as refusal:
        assert refusal.field == "from"
        assert refusal.hint


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "0.0.0",
        "0123456789abcdef.01.0123456789",
        "0123456789abcdef.1.012345678",
        "0123456789abcdef.1.0123456789\n",
        "0123456789ABCDEF.1.0123456789",
    ],
)
def test_a_cursor_that_cannot_be_ours_is_refused(wrong):
    with pytest.raises(InvalidCursor):
        Cursor.parse(wrong)


def test_the_digest_tells_ids_apart_that_share_a_beginning():
    assert id_digest("01KAB000000000000000000001") != id_digest("01KAB000000000000000000002")
    assert re.fullmatch("[0-9a-f]{10}", id_digest(""))

"""Cutting bodies into slices."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.errors import InvalidJson, TooLarge
from claude_loop.transports import http_body
from claude_loop.transports.http_body import SLICE_RECORDS, array_slices, first_character, line_slices

LINES = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=60)


@given(LINES, st.integers(1, 200), st.integers(1, 7))
def test_slices_hold_every_line_that_is_not_blank_in_order(lines, slice_bytes, slice_records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_body, "_SLICE_BYTES", slice_bytes)
        patch.setattr(http_body, "SLICE_RECORDS", slice_records)
        slices = list(line_slices(b"\n".join(lines)))
    assert [line for slice_ in slices for line in slice_] == [line for line in lines if line.strip()]
    assert all(0 < len(slice_) <= slice_records for slice_ in slices)


def test_blank_lines_are_no_records():
    for body in (b"{}\n" * 100_000, b"\n{}\n" * 100_000):
        assert sum(map(len, line_slices(body))) == 100_000


def test_many_short_lines_make_many_slices():
    slices = list(line_slices(b"1\n" * 10_000))
    assert max(map(len, slices)) == SLICE_RECORDS
    assert sum(map(len, slices)) == 10_000


@given(st.lists(st.one_of(st.integers(-9, 9), st.text(max_size=5), st.dictionaries(st.text(), st.booleans()))))
def test_an_array_is_cut_into_its_elements(elements):
    slices = list(array_slices(orjson.dumps(elements)))
    assert [element for slice_ in slices for element in slice_] == elements


def test_a_body_of_nothing_but_tiny_records_is_refused_at_once():
    for slices in (
        line_slices(b"{}\n" * 200_001),
        line_slices(b"{}\n" * 100_001),
        line_slices(b"{}\n" * 100_000 + b"{}"),
        line_slices(b"\n" * 1_000_000),
        array_slices(b"[" + b"1," * 100_000 + b"1]"),
    ):
        with pytest.raises(TooLarge):
            next(slices)


def test_what_is_wrong_with_an_array_is_said_before_any_element_is_given():
    with pytest.raises(InvalidJson) as failure:
        next(array_slices(b"[1, 2, 3"))
    assert "byte" in failure.value.message
    with pytest.raises(TooLarge):
        next(array_slices(b"[" + b" " * http_body.ARRAY_BYTES + b"]"))


@pytest.mark.parametrize(
    ("body", "first"), [(b"{}", b"{"), (b"[", b"["), (b"", b""), (b" \n\t ", b""), (b"\n {", b"{"), (b"x", b"x")]
)
def test_the_first_character(body, first):
    assert first_character(body) == first

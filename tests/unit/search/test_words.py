"""What people type never reaches FTS5 as an operator, and never fails there."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.errors import InvalidRequest
from claude_loop.search.words import as_expression


@pytest.mark.parametrize(
    ("typed", "expression"),
    [
        ("coupon", '"coupon"*'),
        ("test_coupon failed", '"test coupon"* AND "failed"*'),
        ('"rm -rf build" US-004', '"rm rf build" AND "US 004"*'),
        (
            "NOT a OR (b) NEAR/3 c^2 body:d*",
            '"NOT"* AND "a" AND "OR"* AND "b" AND "NEAR 3"* AND "c 2"* AND "body d"*',
        ),
        ('an "unclosed quote', '"an"* AND "unclosed"* AND "quote"*'),
        ("naïve Ωmega 数", '"naïve"* AND "Ωmega"* AND "数"*'),
        ("a\x00b", '"a b"*'),
    ],
)
def test_expressions(typed: str, expression: str):
    assert as_expression(typed) == expression


@pytest.mark.parametrize("typed", ["", "  ", '"', '""', "***", "-- ;", "🎉", "\x00"])
def test_without_a_word_there_is_nothing_to_look_for(typed: str):
    with pytest.raises(InvalidRequest) as refusal:
        as_expression(typed)
    assert refusal.value.field == "q"
    assert refusal.value.hint


def test_too_many_words():
    with pytest.raises(InvalidRequest, match="17 words"):
        as_expression(" ".join("abcdefghijklmnopq"))


@pytest.fixture(scope="module")
def table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(body, content='', columnsize=0)")
    yield connection
    connection.close()


@given(st.one_of(st.text(max_size=60), st.text("\"'*()^-+:{}\\ aNOT\x00\ud800", max_size=40)))
def test_fts5_takes_every_expression(table: sqlite3.Connection, typed: str):
    try:
        expression = as_expression(typed)
    except InvalidRequest:
        return
    table.execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,)).fetchall()

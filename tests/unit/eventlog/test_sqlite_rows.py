"""Rows into a table, with few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from claude_loop.eventlog.sqlite_rows import insert_rows


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as one:
        one.execute("CREATE TABLE pairs (name TEXT PRIMARY KEY, number INTEGER)")
        yield one


def insert(connection: sqlite3.Connection, numbers: range, conflict: str = "") -> int:
    """The number of statements."""
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    values = [value for number in numbers for value in (f"n{number}", number)]
    insert_rows(connection, "INSERT INTO pairs (name, number)", 2, values, conflict)
    connection.set_trace_callback(None)
    return len(statements)


@pytest.mark.parametrize(
    ("rows", "most"), [(0, 0), (1, 1), (28, 1), (63, 1), (64, 1), (100, 2), (512, 1), (700, 3), (1024, 1)]
)
def test_a_group_of_any_size_takes_few_statements(connection, rows, most):
    assert insert(connection, range(rows)) == most
    assert connection.execute("SELECT name, number FROM pairs ORDER BY number").fetchall() == [
        (f"n{number}", number) for number in range(rows)
    ]


def test_what_is_there_is_updated_where_that_is_asked_for(connection):
    insert(connection, range(3))
    connection.execute("UPDATE pairs SET number = -1")
    insert(connection, range(1, 30), "ON CONFLICT (name) DO UPDATE SET number = excluded.number")
    assert [number for (number,) in connection.execute("SELECT number FROM pairs ORDER BY rowid")] == [
        -1,
        *range(1, 30),
    ]

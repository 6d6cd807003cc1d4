"""The schema of events.db, as numbered steps. A step once released never changes; a new one is added.

A field that documents have gained needs none where its first value is what a rebuild would give: see ``complete``.
Documents that are damaged are left as they are: the log opens, and `claude-loop rebuild` makes them anew.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import orjson
import structlog

from claude_loop.errors import NewerLog
from claude_loop.eventlog import old_runs, old_sessions
from claude_loop.eventlog.base import FirstValues
from claude_loop.eventlog.sqlite_rows import prefix_range

log = structlog.get_logger(__name__)

# SQLite passes a function 127 arguments at the most.
_MOST_PAIRS = 50
# One statement, or what SQL would say at length.
Change = str | Callable[[sqlite3.Connection], None]

# Columns of an event beside its JSON exist to be searched by. The partial indexes leave out the events that have
# no such id: most have no session, and a tool call no story.
_STEP_1 = (
    """
    CREATE TABLE log (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch TEXT NOT NULL,
        first INTEGER NOT NULL,
        head INTEGER NOT NULL,
        head_digest TEXT NOT NULL,
        trimmed_digest TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        clean INTEGER NOT NULL,
        durability TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        project TEXT,
        prd_id TEXT,
        story_id TEXT,
        run_id TEXT,
        session_id TEXT,
        source TEXT NOT NULL,
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        json TEXT NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX events_by_id ON events (id)",
    "CREATE INDEX events_by_prd ON events (prd_id) WHERE prd_id IS NOT NULL",
    "CREATE INDEX events_by_run ON events (run_id) WHERE run_id IS NOT NULL",
    "CREATE INDEX events_by_session ON events (session_id) WHERE session_id IS NOT NULL",
    """
    CREATE TABLE spool_offsets (
        name TEXT NOT NULL,
        inode INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        PRIMARY KEY (name, inode)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE read_model (key TEXT PRIMARY KEY, document TEXT NOT NULL)",
    # The read model as it was just after the last event that was pruned: where a rebuild begins.
    "CREATE TABLE trimmed_model (key TEXT PRIMARY KEY, document TEXT NOT NULL)",
)


def _set(table: str, prefix: str, fields: dict[str, str]) -> str:
    """Give the documents of a kind the fields they gained; the values are JSON."""
    pairs = ", ".join(f"'$.{name}', json('{value}')" for name, value in fields.items())
    return (
        f"UPDATE {table} SET document = json_set(document, {pairs}) WHERE key GLOB '{prefix}*' AND json_valid(document)"
    )


_STEP_2 = (
    # A PRD is forgotten once in a while; a start must find it without reading the log.
    "CREATE INDEX events_that_forget ON events (seq) WHERE type = 'prd.forgotten'",
    # PRDs gained a field; a rebuild would give it to them.
    _set("read_model", "prd/", {"archived_at": "null"}),
    _set("trimmed_model", "prd/", {"archived_at": "null"}),
    # How far the events before that one have been blanked.
    "CREATE TABLE blanked (seq INTEGER PRIMARY KEY, upto INTEGER NOT NULL, done INTEGER NOT NULL)",
)


_MODELS = ("read_model", "trimmed_model")
# Runs gained their agents, who was told of them, and what they printed; stories what was planned of them.
_STEP_3 = (
    # After a restart the commits and test runs of a PRD are looked up, among perhaps a million other events.
    """
    CREATE INDEX events_that_are_facts ON events (prd_id, project, type)
    WHERE type IN ('commit.created', 'test.run', 'prd.forgotten')
    """,
    *(_set(table, "run/", {"agents": "[]", "notified": "null", "output_bytes": "0"}) for table in _MODELS),
    *(_set(table, "story/", {"priority": "null", "depends_on": "[]", "done_before": "false"}) for table in _MODELS),
    # A wait names the subagent that waits.
    *(
        f"""
        UPDATE {table} SET document = json_set(document, '$.waiting.agent_id', NULL, '$.waits', (
            SELECT json_group_array(json_set(value, '$.agent_id', NULL)) FROM json_each(document, '$.waits')
        )) WHERE key GLOB 'run/*' AND iif(json_valid(document), json_type(document, '$.waiting'), NULL) = 'object'
        """
        for table in _MODELS
    ),
)

# Of a PRD the sessions that began last are kept, and a line of an agent says in which call it is.
_STEP_4 = tuple(
    partial(change, table=table) for table in _MODELS for change in (old_sessions.tell_calls, old_sessions.keep_latest)
)

# Which fields the stored documents have been given for having none (``complete``).
_STEP_5 = ("CREATE TABLE completed (one INTEGER PRIMARY KEY CHECK (one = 1), digest TEXT NOT NULL)",)

# Runs gained what their agents used, stories what they come after (``complete``).
_STEP_6 = (
    # What an agent used is a fact that several may report.
    "DROP INDEX events_that_are_facts",
    """
    CREATE INDEX events_that_are_facts ON events (prd_id, project, type)
    WHERE type IN ('commit.created', 'test.run', 'usage.reported', 'prd.forgotten')
    """,
)

# What is heard after the end of a run may be of a story that was at work until then.
_STEP_7 = tuple(partial(old_runs.tell_left, table=table) for table in _MODELS)

STEPS: tuple[tuple[Change, ...], ...] = (_STEP_1, _STEP_2, _STEP_3, _STEP_4, _STEP_5, _STEP_6, _STEP_7)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, all steps in one transaction. The connection is in autocommit mode.

    Raises ``NewerLog`` for a file that a later version has written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise NewerLog(f"events.db has schema {version}; this version of claude-loop knows {len(STEPS)}.")
    if version == len(STEPS):
        return
    with _transaction(connection):
        for step in STEPS[version:]:
            for change in step:
                if isinstance(change, str):
                    connection.execute(change)
                else:
                    change(connection)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
    _report_damaged(connection)


def _report_damaged(connection: sqlite3.Connection) -> None:
    for table in _MODELS:
        (count,) = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT json_valid(document)").fetchone()
        if count:
            log.warning("documents cannot be read; `claude-loop rebuild` makes them anew", table=table, count=count)


def complete(connection: sqlite3.Connection, first_values: FirstValues) -> None:
    """Give stored documents the fields that documents are born with by now and that they lack, in one transaction."""
    digest = hashlib.sha256(orjson.dumps(dict(first_values), option=orjson.OPT_SORT_KEYS)).hexdigest()
    if not first_values or connection.execute("SELECT digest FROM completed").fetchone() == (digest,):
        return
    with _transaction(connection):
        for prefix, document in first_values.items():
            pairs = [
                value for field, first in document.items() for value in (f"$.{field}", orjson.dumps(first).decode())
            ]
            for first in range(0, len(pairs), _MOST_PAIRS * 2):
                _insert(connection, prefix, pairs[first : first + _MOST_PAIRS * 2])
        connection.execute("INSERT OR REPLACE INTO completed (one, digest) VALUES (1, ?)", (digest,))


def _insert(connection: sqlite3.Connection, prefix: str, pairs: list[str]) -> None:
    places = ", ?, json(?)" * (len(pairs) // 2)
    wanted = "key >= ? AND key < ? AND json_valid(document)"
    for table in _MODELS:
        connection.execute(
            f"UPDATE {table} SET document = json_insert(document{places}) WHERE {wanted}",
            (*pairs, *prefix_range(prefix)),
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

"""The schema of events.db, as numbered steps. A step once released never changes; a new one is added."""

from __future__ import annotations

import sqlite3

from claude_loop.errors import NewerLog

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

_STEP_2 = (
    # A PRD is forgotten once in a while; a start must find it without reading the log.
    "CREATE INDEX events_that_forget ON events (seq) WHERE type = 'prd.forgotten'",
    # PRDs gained a field; a rebuild would give it to them.
    "UPDATE read_model SET document = json_set(document, '$.archived_at', NULL) WHERE key GLOB 'prd/*'",
    "UPDATE trimmed_model SET document = json_set(document, '$.archived_at', NULL) WHERE key GLOB 'prd/*'",
    # How far the events before that one have been blanked.
    "CREATE TABLE blanked (seq INTEGER PRIMARY KEY, upto INTEGER NOT NULL, done INTEGER NOT NULL)",
)


def _set(table: str, prefix: str, fields: dict[str, str]) -> str:
    """Give the documents of a kind the fields they gained; the values are JSON."""
    pairs = ", ".join(f"'$.{name}', json('{value}')" for name, value in fields.items())
    return f"UPDATE {table} SET document = json_set(document, {pairs}) WHERE key GLOB '{prefix}*'"


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
        )) WHERE key GLOB 'run/*' AND json_type(document, '$.waiting') = 'object'
        """
        for table in _MODELS
    ),
)

_STEP_4 = (
    # Runs gained what their agents used.
    *(_set(table, "run/", {"usage": "null"}) for table in _MODELS),
    # Stories gained what they come after.
    *(_set(table, "story/", {"after": "[]", "circle": "[]", "needed_by": "[]"}) for table in _MODELS),
    # What an agent used is a fact that several may report.
    "DROP INDEX events_that_are_facts",
    """
    CREATE INDEX events_that_are_facts ON events (prd_id, project, type)
    WHERE type IN ('commit.created', 'test.run', 'usage.reported', 'prd.forgotten')
    """,
)

STEPS = (_STEP_1, _STEP_2, _STEP_3, _STEP_4)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, all steps in one transaction. The connection is in autocommit mode.

    Raises ``NewerLog`` for a file that a later version has written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise NewerLog(f"events.db has schema {version}; this version of claude-loop knows {len(STEPS)}.")
    if version == len(STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise

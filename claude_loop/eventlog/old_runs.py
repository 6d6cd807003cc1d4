"""What step 7 of the schema does: runs stored before it are told which of their stories were at work when they ended.

Written for the documents as they were then. Like every step it never changes, whatever becomes of the documents.
"""

from __future__ import annotations

import sqlite3

import orjson

_MOST = 32


def tell_left(connection: sqlite3.Connection, table: str) -> None:
    """Give each run the names of the stories whose last attempt was left open by its end."""
    left = connection.execute(
        f"""
        SELECT key, json_extract(document, '$.story_id') FROM {table}
        WHERE key >= 'story/' AND key < 'story0'
        AND iif(json_valid(document), json_extract(document, '$.attempts[#-1].outcome'), NULL) = 'left'
        """
    )
    names: dict[str, list[str]] = {}
    for key, story_id in left.fetchall():
        of_run, _, _ = key.partition("/")[2].rpartition("/")
        names.setdefault(f"run/{of_run}", []).append(story_id)
    for key, of_run in names.items():
        connection.execute(
            f"UPDATE {table} SET document = json_set(document, '$.left', json(?))"
            " WHERE key = ? AND json_valid(document)",
            (orjson.dumps(sorted(of_run)[-_MOST:]).decode(), key),
        )

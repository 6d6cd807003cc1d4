"""What step 4 of the schema does: sessions stored before it gain what a rebuild would give them.

Written for the documents as they were then. Like every step it never changes, whatever becomes of the documents. One
difference to a rebuild stays: a session that was taken up again after 200 others had begun is whole here, and has only
what came since in a rebuild.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

_KEPT_SESSIONS = 200


class _Session(NamedTuple):
    key: str
    document: dict[str, Any]

    @property
    def place(self) -> str:
        """The key of the document that says which sessions are kept beside this one."""
        kind, _, rest = self.key.partition("/")
        path, _, _ = rest.rpartition("/")
        return f"kept/{path}/" if kind == "session" else f"kept/{path}"


def keep_latest(connection: sqlite3.Connection, table: str) -> None:
    """Write down which sessions there are, those that began last; the others go."""
    places: dict[str, list[_Session]] = {}
    for session in _sessions(connection, table):
        places.setdefault(session.place, []).append(session)
    connection.execute(f"DELETE FROM {table} WHERE key >= 'kept/' AND key < 'kept0'")
    for place, sessions in places.items():
        kept = [session.document["session_id"] for session in sessions[-_KEPT_SESSIONS:]]
        _put(connection, table, place, {"sessions": kept})
        gone = [(session.key,) for session in sessions[:-_KEPT_SESSIONS]]
        connection.executemany(f"DELETE FROM {table} WHERE key = ?", gone)


def tell_calls(connection: sqlite3.Connection, table: str) -> None:
    """Give the lines of live agents the call that each is in, and its last sign of life."""
    runs = [(key, run) for key, run in _documents(connection, table, "run") if run.get("agents")]
    if not runs:
        return
    sessions = {(found.place, found.document["session_id"]): found.document for found in _sessions(connection, table)}
    for key, run in runs:
        path, _, _ = key.partition("/")[2].rpartition("/")
        for line in run["agents"]:
            session = sessions.get((f"kept/{path}/", line["session_id"]))
            line["last_at"] = line.get("last_at", line["since"]) if session is None else session["last"]["at"]
            line["call"] = None if session is None else _call_of(session)
        _put(connection, table, key, run)


def _sessions(connection: sqlite3.Connection, table: str) -> list[_Session]:
    """In the order of their beginning: a document keeps its row from the first event to the last."""
    documents = _documents(connection, table, "session", "agent")
    return [_Session(key, document) for key, document in documents if "session_id" in document]


def _documents(connection: sqlite3.Connection, table: str, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that can be read, with their keys, by row. As bytes, since what is damaged may be no UTF-8."""
    wanted = " OR ".join(f"key >= '{kind}/' AND key < '{kind}0'" for kind in kinds)
    rows = connection.execute(f"SELECT key, CAST(document AS BLOB) FROM {table} WHERE {wanted} ORDER BY rowid")
    for key, text in rows.fetchall():
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue  # `migrate` counts them
        if isinstance(document, dict):
            yield key, document


def _call_of(session: dict[str, Any]) -> dict[str, Any] | None:
    if session["state"] != "running" or not session["open_calls"]:
        return None
    call = session["open_calls"][-1]
    return {"tool": call["tool"], "summary": call["summary"], "since": call["since"]}


def _put(connection: sqlite3.Connection, table: str, key: str, document: dict[str, Any]) -> None:
    connection.execute(
        f"INSERT INTO {table} (key, document) VALUES (?, ?) "
        "ON CONFLICT (key) DO UPDATE SET document = excluded.document",
        (key, orjson.dumps(document).decode()),
    )

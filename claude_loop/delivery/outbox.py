"""What was sent, is to be sent, or could not be: one small SQLite file, used from one thread.

The name of a message is unique, so looking twice, or after a crash, never makes a second one. Before a channel hears of
a message its row says `sending`; what a crash leaves in that state is settled by the courier's receipt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from claude_loop.delivery.conditions import ENDS, FACTS, URGENCY, Condition, Subject
from claude_loop.delivery.messages import Message, Phase, Plan, condition_of, message_id, text_of
from claude_loop.paths import make_private

# A message that has failed for this long is a dead letter.
GIVE_UP_MS = 6 * 3600 * 1000
# Rows that are over are kept this long. No condition older than MAX_AGE_MS makes a message, so none comes back.
KEEP_MS = 30 * 86_400_000
MAX_AGE_MS = 7 * 86_400_000
# What began this long before a channel was set up is not news for it.
FRESH_MS = 600_000
# Whether the channel was told of the end of what `told` says.
_RESOLVED = (
    "EXISTS (SELECT 1 FROM message AS ended WHERE ended.run=told.run AND ended.kind=told.kind"
    " AND ended.since=told.since AND ended.channel=told.channel AND ended.phase='resolved')"
)
# What is to be followed until it ends. A run that is done is not: its row only says whether it was when last looked at.
_LASTS = "lasts AND kind<>'done'"
# Why a message that nobody has was dropped.
_ENDED = "it ended before"
# `prd_id` is empty for an agent without a PRD.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
  number INTEGER PRIMARY KEY,
  message_id TEXT NOT NULL UNIQUE,
  channel TEXT NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL,
  step INTEGER NOT NULL, phase TEXT NOT NULL,
  project TEXT, prd_id TEXT NOT NULL, condition TEXT NOT NULL,
  state TEXT NOT NULL, due_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  first_attempt_at INTEGER, settled_at INTEGER, reason TEXT NOT NULL DEFAULT '',
  lasts INTEGER NOT NULL DEFAULT 1, logged INTEGER NOT NULL DEFAULT 0,
  UNIQUE (run, kind, since, channel, step, phase));
CREATE INDEX IF NOT EXISTS message_due ON message (channel, state, due_at);
CREATE INDEX IF NOT EXISTS message_lasts ON message (lasts, prd_id) WHERE lasts;
CREATE INDEX IF NOT EXISTS message_unlogged ON message (logged) WHERE NOT logged;
"""


class Outbox:
    """Raises ``sqlite3.Error`` and ``OSError``; a transaction that failed has changed nothing."""

    def __init__(self, path: Path) -> None:
        make_private(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    # --- the reader's place, and when each channel began

    def cursor(self) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name='cursor'").fetchone()
        return None if row is None else str(row[0])

    def begin_channels(self, names: Iterable[str], now_ms: int) -> dict[str, int]:
        """Since when each channel has been there; those that are new, since now. Messages of channels that are gone
        are dropped."""
        with self._transaction():
            for name in names:
                self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (f"channel/{name}", str(now_ms)))
            rows = self._db.execute("SELECT name, value FROM meta WHERE name LIKE 'channel/%'").fetchall()
            known = {str(name).removeprefix("channel/"): int(value) for name, value in rows}
            for gone in known.keys() - set(names):
                self._db.execute("DELETE FROM meta WHERE name=?", (f"channel/{gone}",))
                self._db.execute(
                    "UPDATE message SET state='dropped', lasts=0, logged=1, settled_at=?, reason='the channel is gone'"
                    " WHERE channel=? AND state IN ('pending','sending')",
                    (now_ms, gone),
                )
                self._db.execute("UPDATE message SET lasts=0, logged=1 WHERE channel=?", (gone,))
        return {name: known[name] for name in names}

    # --- what a look at the read model found

    def settle_look(
        self,
        subjects: Iterable[Subject],
        found: Iterable[tuple[Condition, list[Plan]]],
        forgotten: Iterable[Subject],
        resolving: frozenset[str],
        cursor: str,
        now_ms: int,
        *,
        given_up: Collection[Subject] = (),
    ) -> None:
        """``found`` is all that holds of ``subjects`` now; of those ``forgotten`` nothing is kept.

        New conditions become messages; of those that ended, a message nobody got is dropped, and one that was got is
        followed by `resolved` on the channels of ``resolving``: not of who was ``given_up``, as that they ended is not
        known, and not where the channel hears of something as urgent or more so instead: all is not well."""
        with self._transaction():
            holding = [(self._known(condition), plans) for condition, plans in found]
            worst = _worst(holding)
            names = {condition.identity for condition, _ in holding}
            for condition, plans in holding:
                for plan in plans:
                    self._insert(condition, plan.channel, 0, "alert", plan.due_at)
                    self._holds_again(message_id(condition, plan.channel, 0, "alert"), plan.due_at)
            for subject in subjects:
                self._end_others(subject, names, frozenset() if subject in given_up else resolving, worst, now_ms)
            for subject in forgotten:
                where, values = _of(subject)
                self._db.execute(f"DELETE FROM message WHERE {where}", values)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (cursor,))

    def _known(self, condition: Condition) -> Condition:
        """An end that was reported again is the one that is told already, as it was named then."""
        if condition.kind not in ENDS:
            return condition
        row = self._db.execute(
            "SELECT since FROM message WHERE run=? AND kind=? AND lasts AND phase='alert' ORDER BY number LIMIT 1",
            (condition.run, condition.kind),
        ).fetchone()
        return condition if row is None else replace(condition, since=int(row[0]))

    def _end_others(
        self,
        subject: Subject,
        names: set[tuple[str, str, int]],
        resolving: frozenset[str],
        worst: dict[tuple[str, str], int],
        now_ms: int,
    ) -> None:
        where, values = _of(subject)
        rows = self._db.execute(
            "SELECT run, kind, since, channel, condition, max(state IN ('sent','sending')) FROM message"
            f" WHERE lasts AND {where} AND phase='alert' GROUP BY run, kind, since, channel",
            values,
        ).fetchall()
        for run, kind, since, channel, condition, told in rows:
            if (run, kind, since) in names:
                continue
            self._db.execute(
                "UPDATE message SET lasts=0 WHERE run=? AND kind=? AND since=? AND channel=?",
                (run, kind, since, channel),
            )
            if kind in FACTS:
                continue
            self._db.execute(
                "UPDATE message SET state='dropped', logged=1, settled_at=?, reason=?"
                " WHERE run=? AND kind=? AND since=? AND channel=? AND state='pending' AND phase='alert'",
                (now_ms, _ENDED, run, kind, since, channel),
            )
            if channel not in resolving or worst.get((run, channel), 0) >= URGENCY.index(kind):
                continue
            over = condition if told else self._last_told(run, channel)
            if over is not None:
                self._insert(condition_of(over), channel, 0, "resolved", now_ms, lasts=False)

    def _holds_again(self, message: str, due_at: int) -> None:
        """What was hidden by another state for a while: dropped, it is to be told after all; told, its end is."""
        self._db.execute(
            "UPDATE message SET state='pending', due_at=?, reason='', logged=0"
            " WHERE message_id=? AND state='dropped' AND reason=?",
            (due_at, message, _ENDED),
        )
        self._db.execute("UPDATE message SET lasts=1 WHERE message_id=? AND NOT lasts AND state<>'dropped'", (message,))

    def _last_told(self, run: str, channel: str) -> str | None:
        """The condition of the last alert of a run, if it is over and nobody was told so: what came instead of it was
        over too before it could be told."""
        row = self._db.execute(
            f"SELECT condition, lasts OR kind='done' OR {_RESOLVED} FROM message AS told"
            " WHERE run=? AND channel=? AND phase='alert' AND step=0 AND state IN ('sent','sending')"
            " ORDER BY number DESC LIMIT 1",
            (run, channel),
        ).fetchone()
        return None if row is None or row[1] else str(row[0])

    def lasting(self) -> list[Subject]:
        """Of whom something was said, or is to be, that had not ended when last looked at."""
        rows = self._db.execute(
            f"SELECT condition FROM message WHERE {_LASTS} GROUP BY project, prd_id, run"
        ).fetchall()
        return list(dict.fromkeys(condition_of(condition).subject for (condition,) in rows))

    def lasting_runs(self, subject: Subject) -> list[str]:
        where, values = _of(subject)
        rows = self._db.execute(f"SELECT DISTINCT run FROM message WHERE {_LASTS} AND {where}", values).fetchall()
        return [run for (run,) in rows]

    # --- sending

    def due(self, channel: str, now_ms: int) -> Message | None:
        """The message to send now: one that was never tried before those that failed, then the one due first."""
        return self._one(
            "WHERE channel=? AND state='pending' AND due_at<=? ORDER BY attempts, due_at, number LIMIT 1",
            (channel, now_ms),
        )

    def next_due_at(self, channel: str) -> int | None:
        row = self._db.execute(
            "SELECT min(due_at) FROM message WHERE channel=? AND state='pending'", (channel,)
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def left_sending(self, channel: str) -> list[Message]:
        """What a crash interrupted."""
        return self._all("WHERE channel=? AND state='sending' ORDER BY number", (channel,))

    def replaced_by(self, message: Message) -> list[str]:
        """What the channel was told of the same run that is over, and of whose end it was not told: by name of the
        cause. This message takes its place."""
        rows = self._db.execute(
            "SELECT message_id FROM message AS told WHERE run=? AND channel=? AND phase='alert' AND step=0"
            f" AND state='sent' AND NOT lasts AND kind<>'done' AND NOT {_RESOLVED} ORDER BY number DESC LIMIT 10",
            (message.condition.run, message.channel),
        )
        return [name for (name,) in rows]

    def postpone(self, message: Message, due_at: int) -> None:
        self._db.execute("UPDATE message SET due_at=? WHERE message_id=?", (due_at, message.message_id))

    def advance(self, channel: str, ms: int) -> None:
        """Everything that waits is due that much earlier."""
        self._db.execute("UPDATE message SET due_at=due_at-? WHERE channel=? AND state='pending'", (ms, channel))

    def sending(self, message: Message, now_ms: int) -> bool:
        """Whether it is still to be sent; if so it is marked, durably, before a channel hears of it."""
        changed = self._db.execute(
            "UPDATE message SET state='sending', attempts=attempts+1, first_attempt_at=coalesce(first_attempt_at, ?)"
            " WHERE message_id=? AND state='pending'",
            (now_ms, message.message_id),
        )
        return changed.rowcount == 1

    def sent(self, message: Message, now_ms: int, repeat_ms: int, repeat_times: int) -> None:
        """It was taken. While its cause lasts the next step of the escalation follows."""
        with self._transaction():
            self._db.execute(
                "UPDATE message SET state='sent', settled_at=?, reason='' WHERE message_id=?",
                (now_ms, message.message_id),
            )
            (lasts,) = self._db.execute(
                f"SELECT {_LASTS} FROM message WHERE message_id=?", (message.message_id,)
            ).fetchone() or (0,)
            if lasts and repeat_ms and message.phase == "alert" and message.step < repeat_times:
                self._insert(message.condition, message.channel, message.step + 1, "alert", now_ms + repeat_ms)

    def failed(self, message: Message, reason: str, now_ms: int, again_at: int) -> bool:
        """It was not taken. Whether it is a dead letter now; else it is tried again."""
        row = self._db.execute(
            "SELECT first_attempt_at, lasts FROM message WHERE message_id=?", (message.message_id,)
        ).fetchone()
        if row is None:
            return False  # its PRD was forgotten meanwhile
        first = row[0] if row[0] is not None else now_ms
        ended = message.phase == "alert" and not row[1] and message.condition.kind not in FACTS
        dead = now_ms - first >= GIVE_UP_MS
        state = "dropped" if ended and not dead else "dead" if dead else "pending"
        self._db.execute(
            "UPDATE message SET state=?, reason=?, due_at=?, settled_at=?, logged=? WHERE message_id=?",
            (state, reason, again_at, None if state == "pending" else now_ms, state == "dropped", message.message_id),
        )
        if state != "pending" and message.phase == "alert":
            self._drop_needless_end(message)
        return state == "dead"

    def _drop_needless_end(self, message: Message) -> None:
        """Nobody hears that something has ended who never heard of it."""
        name = (*message.condition.identity, message.channel)
        same = "run=? AND kind=? AND since=? AND channel=?"
        told = self._db.execute(f"SELECT 1 FROM message WHERE {same} AND phase='alert' AND state='sent'", name)
        if told.fetchone() is None:
            self._db.execute(
                f"UPDATE message SET state='dropped', logged=1 WHERE {same} AND phase='resolved' AND state='pending'",
                name,
            )

    # --- what the log and people are told

    def unlogged(self) -> list[Message]:
        return self._all("WHERE NOT logged AND state IN ('sent','dead') ORDER BY number LIMIT 100", ())

    def logged(self, messages: Iterable[Message]) -> None:
        with self._transaction():
            for message in messages:
                self._db.execute("UPDATE message SET logged=1 WHERE message_id=?", (message.message_id,))

    def prune(self, now_ms: int) -> None:
        self._db.execute(f"DELETE FROM message WHERE NOT ({_LASTS}) AND settled_at<?", (now_ms - KEEP_MS,))

    def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for channel, state, count in self._db.execute("SELECT channel, state, count(*) FROM message GROUP BY 1, 2"):
            found.setdefault(channel, {})[state] = count
        return found

    def dead_letters(self, most: int) -> list[Message]:
        return self._all("WHERE state='dead' ORDER BY settled_at DESC LIMIT ?", (most,))

    # --- below

    def _insert(
        self, condition: Condition, channel: str, step: int, phase: Phase, due_at: int, *, lasts: bool = True
    ) -> None:
        values = (
            message_id(condition, channel, step, phase), channel, *condition.identity, step, phase, condition.project,
            condition.prd_id or "", text_of(condition), due_at, lasts,
        )  # fmt: skip
        self._db.execute(
            "INSERT INTO message (message_id, channel, run, kind, since, step, phase, project, prd_id,"
            " condition, state, due_at, lasts) VALUES (?,?,?,?,?,?,?,?,?,?,'pending',?,?)"
            # Nobody has it yet: it is to say what is known by now.
            " ON CONFLICT (message_id) DO UPDATE SET condition=excluded.condition"
            " WHERE state='pending' AND attempts=0",
            values,
        )

    def _all(self, where: str, values: tuple[Any, ...]) -> list[Message]:
        columns = "message_id, channel, step, phase, state, due_at, attempts, first_attempt_at, settled_at, reason"
        rows = self._db.execute(f"SELECT {columns}, condition FROM message {where}", values)
        return [Message._make((*row[:-1], condition_of(row[-1]))) for row in rows]

    def _one(self, where: str, values: tuple[Any, ...]) -> Message | None:
        return next(iter(self._all(where, values)), None)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


def _worst(holding: list[tuple[Condition, list[Plan]]]) -> dict[tuple[str, str], int]:
    """How urgent the most urgent is that a channel hears of a run."""
    worst: dict[tuple[str, str], int] = {}
    for condition, plans in holding:
        for plan in plans:
            key = condition.run, plan.channel
            worst[key] = max(worst.get(key, 0), URGENCY.index(condition.kind))
    return worst


def _of(subject: Subject) -> tuple[str, tuple[str | None, ...]]:
    """Which rows are about it, and the values for that."""
    if subject.prd_id is None:
        return "run=?", (subject.key,)
    return "prd_id=? AND project IS ?", (subject.prd_id, subject.project)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *rest: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")

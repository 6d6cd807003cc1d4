"""The log as a stopped daemon left it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_loop.errors import LogDamaged
from claude_loop.eventlog.base import nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.progress.projection import ProgressProjection
from tests.prove.oracle import Violation


@dataclass(frozen=True)
class StoredLog:
    first: int
    events: list[Event]

    @property
    def pairs(self) -> list[tuple[int, str]]:
        return [(event.seq, event.id) for event in self.events]

    def of_type(self, type_: str) -> list[Event]:
        return [event for event in self.events if event.type == type_]


async def read_log(database: Path) -> StoredLog:
    """All events, after a check that the read model is what a rebuild makes. Raises ``Violation``."""
    try:
        return await _checked(SqliteEventLog(database, ProgressProjection()))
    except LogDamaged as damage:
        raise Violation(f"the log that was left is damaged: {damage}") from damage


async def _checked(log: SqliteEventLog) -> StoredLog:
    await log.open(nobody)
    try:
        events = (await log.read(0, 10**9)).events
        kept = await log.entities("")
        folded = await log.rebuild()
        if folded != len(events):
            raise Violation(f"a rebuild folds {folded} events of {len(events)}")
        rebuilt = await log.entities("")
        if rebuilt != kept:
            raise Violation(f"the read model is not what the log says: {_differences(kept, rebuilt)[:5]}")
        return StoredLog(log.state.first, events)
    finally:
        await log.close()


def _differences(kept: dict[str, dict[str, Any]], rebuilt: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(document, field, as it was kept, as it is rebuilt)."""
    return [
        (key, name, kept.get(key, {}).get(name), rebuilt.get(key, {}).get(name))
        for key in sorted(kept.keys() | rebuilt.keys())
        for name in sorted(kept.get(key, {}).keys() | rebuilt.get(key, {}).keys())
        if kept.get(key, {}).get(name) != rebuilt.get(key, {}).get(name)
    ]

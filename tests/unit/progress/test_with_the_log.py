"""The projection inside a real log: what it stores is what a rebuild gives, also once old events are pruned."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import EventLog, nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.progress.projection import ProgressProjection
from claude_loop.progress.views import Moment, list_cards
from tests.unit.progress.scenarios import play

SCENARIO = (
    "prd.started total_stories=2 → story.started → test.run passed=1 failed=1 → story.completed success=false "
    "→ prd.started prd=PRD-2 → story.started → test.run passed=2 failed=0 → commit.created commit_hash=abc1 "
    "→ agent.waiting for=human reason=x → story.completed success=true → prd.started → story.started → log.message "
    "level=info message=x → story.started story=US-002 run=event-1"
)


NEW_IN_3 = {
    "run/": ["agents", "notified", "output_bytes", "waiting.agent_id", "waits[0].agent_id"],
    "story/": ["priority", "depends_on", "done_before"],
}
NEW_IN_4 = {"run/": ["usage"], "story/": ["after", "circle", "needed_by"]}


def as_published(events: list[Event]) -> list[Event]:
    given = {"event-14": "event-1"}
    return [
        Event(
            event.type,
            event.data,
            id=event.id,
            prd_id=event.prd_id,
            story_id=event.story_id,
            run_id=given.get(event.id),
            at=event.at,
        )
        for event in events
    ]


async def test_a_rebuild_changes_nothing(log: EventLog):
    events = as_published(play(SCENARIO).events)
    await log.append(events[:5])
    await log.append(events[5:])
    stored = await log.entities("")
    assert len(stored) == 8
    assert {event.run_id for event in (await log.read(0, 100)).events} == {"event-1", "event-5", "event-11"}
    await log.rebuild()
    assert await log.entities("") == stored
    assert await log.prune(0, 6, 100) == len(events) - 6
    await log.rebuild()
    assert await log.entities("") == stored


async def test_views_read_the_log(log: EventLog):
    await log.append(as_published(play(SCENARIO).events))
    cards: list[Any] = await list_cards(log, Moment(10**13, 300_000, 0))
    assert [(card["prd_id"], card["state"], card["number"]) for card in cards] == [
        ("PRD-1", "stalled", 2),
        ("PRD-2", "stalled", 1),
    ]


async def test_a_log_of_the_first_schema_is_brought_up_to_date(tmp_path: Path):
    path = tmp_path / "events.db"
    log = SqliteEventLog(path, ProgressProjection(), ManualClock())
    await log.open(nobody)
    await log.append(as_published(play(f"{SCENARIO} → agent.waiting for=human reason=y").events))
    await log.prune(0, 6, 100)
    expected = await log.entities("")
    await log.close()
    with sqlite3.connect(path) as old:
        old.execute("DROP INDEX events_that_forget")
        old.execute("DROP INDEX events_that_are_facts")
        old.execute("DROP TABLE blanked")
        for table in ("read_model", "trimmed_model"):
            old.execute(f"UPDATE {table} SET document = json_remove(document, '$.archived_at') WHERE key GLOB 'prd/*'")
            for prefix, fields in (*NEW_IN_3.items(), *NEW_IN_4.items()):
                gone = ", ".join(f"'$.{field}'" for field in fields)
                old.execute(f"UPDATE {table} SET document = json_remove(document, {gone}) WHERE key GLOB '{prefix}*'")
        old.execute("PRAGMA user_version = 1")
    old.close()
    log = SqliteEventLog(path, ProgressProjection(), ManualClock())
    await log.open(nobody)
    assert await log.entities("") == expected
    await log.rebuild()
    assert await log.entities("") == expected
    await log.close()

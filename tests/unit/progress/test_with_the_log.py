"""The projection inside a real log: what it stores is what a rebuild gives, also once old events are pruned."""

from __future__ import annotations

from typing import Any

from claude_loop.eventlog.base import EventLog
from claude_loop.events import Event
from claude_loop.progress.views import Moment, list_cards
from tests.unit.progress.scenarios import play

SCENARIO = (
    "prd.started total_stories=2 → story.started → test.run passed=1 failed=1 → story.completed success=false "
    "→ prd.started prd=PRD-2 → story.started → test.run passed=2 failed=0 → commit.created commit_hash=abc1 "
    "→ agent.waiting for=human reason=x → story.completed success=true → prd.started → story.started → log.message "
    "level=info message=x → story.started story=US-002 run=event-1"
)


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

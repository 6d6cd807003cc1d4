"""Logs that earlier versions wrote: once opened, their read model is what a rebuild by this version gives."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.eventlog.base import EventLog, nobody
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.events import Event
from claude_loop.progress import draft
from claude_loop.progress.keys import session_key
from claude_loop.progress.projection import ProgressProjection
from tests.unit.progress.scenarios import World, play
from tests.unit.progress.test_with_the_log import SCENARIO, as_published

MODELS = ("read_model", "trimmed_model")
NEW_IN_3 = {
    "run/": ["agents", "notified", "output_bytes", "waiting.agent_id", "waits[0].agent_id"],
    "story/": ["priority", "depends_on", "done_before"],
}
KEPT = 20  # instead of 200, in these tests


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[EventLog]:
    log = SqliteEventLog(path, ProgressProjection(), ManualClock())
    await log.open(nobody)
    try:
        yield log
    finally:
        await log.close()


def become_schema_3(old: sqlite3.Connection) -> None:
    old.execute("DROP TABLE completed")
    for table in MODELS:
        old.execute(f"DELETE FROM {table} WHERE key GLOB 'kept/*'")
        for place in range(draft.KEPT_SESSIONS):
            gone = f"'$.agents[{place}].last_at', '$.agents[{place}].call'"
            old.execute(f"UPDATE {table} SET document = json_remove(document, {gone}) WHERE key GLOB 'run/*'")
    old.execute("PRAGMA user_version = 3")


def become_schema_1(old: sqlite3.Connection) -> None:
    become_schema_3(old)
    old.execute("DROP INDEX events_that_forget")
    old.execute("DROP INDEX events_that_are_facts")
    old.execute("DROP TABLE blanked")
    for table in MODELS:
        old.execute(f"UPDATE {table} SET document = json_remove(document, '$.archived_at') WHERE key GLOB 'prd/*'")
        for prefix, fields in NEW_IN_3.items():
            gone = ", ".join(f"'$.{field}'" for field in fields)
            old.execute(f"UPDATE {table} SET document = json_remove(document, {gone}) WHERE key GLOB '{prefix}*'")
    old.execute("PRAGMA user_version = 1")


def lose_fields_and_come_from_another_version(old: sqlite3.Connection) -> None:
    for table in MODELS:
        old.execute(f"UPDATE {table} SET document = json_remove(document, '$.notified', '$.waits', '$.archived_at')")
    old.execute("UPDATE completed SET digest = 'of other first values'")


async def documents(log: EventLog) -> tuple[object, object]:
    return await log.entities(""), (await log.trimmed_entities(""))[1]


def sessions(count: int) -> list[Event]:
    """So many of two PRDs and of a project that has none; those that began last are still at work."""
    world = World()
    for number in range(count):
        for prd, project in (("PRD-1", "shop/eu"), ("PRD-1", None), (None, "shop/eu"), (None, None)):
            world.say("session.started", prd=prd, project=project, session=f"S{99 - number}", agent="claude")
    for number, tool in ((count - 1, "Bash"), (count - 2, "Read"), (0, "Edit")):
        world.say(
            "tool.started", project="shop/eu", session=f"S{99 - number}", tool=tool, summary="make é", call_id="c"
        )
    world.say("tool.completed", project="shop/eu", session=f"S{101 - count}", tool="Read", call_id="c")
    return as_stored_by_the_log(world.events)


def as_stored_by_the_log(events: Iterable[Event]) -> list[Event]:
    return [
        Event(e.type, e.data, id=e.id, project=e.project, prd_id=e.prd_id, session_id=e.session_id, at=e.at)
        for e in events
    ]


async def test_a_log_of_the_first_schema_is_brought_up_to_date(path: Path):
    async with opened(path) as log:
        await log.append(as_published(play(f"{SCENARIO} → agent.waiting for=human reason=y").events))
        await log.prune(0, 6, 100)
        expected = await documents(log)
    with sqlite3.connect(path) as old:
        become_schema_1(old)
    old.close()
    async with opened(path) as log:
        assert await documents(log) == expected
        await log.rebuild()
        assert await documents(log) == expected


def replace_id(event: Event) -> Event:
    """The worlds that events come from all count from one."""
    event.id = f"of-another-world-{event.id}"
    return event


HURT = {
    "cut": "CAST(substr(document, 1, length(document) - 5) AS TEXT)",
    "no UTF-8": "CAST(replace(CAST(document AS BLOB), X'61', X'E1') AS TEXT)",
    "empty": "'{}'",
}


@pytest.mark.parametrize("hurt", HURT.values(), ids=HURT)
@pytest.mark.parametrize("become", [become_schema_1, become_schema_3, lose_fields_and_come_from_another_version])
async def test_a_log_with_documents_that_cannot_be_read_opens_and_is_rebuilt(
    path: Path, hurt: str, become: Callable[[sqlite3.Connection], None]
):
    async with opened(path) as log:
        await log.append(as_published(play(SCENARIO).events))
        await log.append([replace_id(event) for event in sessions(3)])
        expected = await log.entities("")
    with sqlite3.connect(path) as old:
        become(old)
        for kind in ("run", "session", "agent", "prd", "story"):
            first = f"SELECT min(key) FROM read_model WHERE key GLOB '{kind}/*'"
            assert old.execute(f"UPDATE read_model SET document = {hurt} WHERE key = ({first})").rowcount == 1
    old.close()
    async with opened(path) as log:
        await log.rebuild()
        assert await log.entities("") == expected


async def test_a_field_that_a_document_lacks_gets_its_first_value_and_what_is_there_stays(path: Path):
    async with opened(path) as log:
        await log.append(as_published(play("prd.started → test.run passed=1 failed=0 → prd.started prd=PRD-2").events))
        await log.prune(0, 1, 100)
        expected = await documents(log)
    with sqlite3.connect(path) as old:
        lose_fields_and_come_from_another_version(old)
    old.close()
    async with opened(path) as log:
        assert await documents(log) == expected


@pytest.mark.parametrize("trimmed", [0, 45])
async def test_sessions_of_the_third_schema_are_kept_and_let_go_as_others(
    path: Path, trimmed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draft, "KEPT_SESSIONS", KEPT)
    events = sessions(KEPT)
    async with opened(path) as log:
        await log.append(events)
        await log.prune(0, len(events) - trimmed, 1000)
        expected = await documents(log)
    with sqlite3.connect(path) as old:
        become_schema_3(old)
    old.close()
    async with opened(path) as log:
        assert await documents(log) == expected
        last = {"session_id": "next", "prd_id": "PRD-1", "project": "shop/eu"}
        await log.append([Event("session.started", {"agent": "claude"}, id="next", at=events[-1].at, **last)])
        now = await log.entities("")
        assert session_key("shop/eu", "PRD-1", "S99") not in now, "the one that began first"
        assert session_key("shop/eu", "PRD-1", "S98") in now
        await log.rebuild()
        assert await log.entities("") == now


async def test_of_very_many_sessions_of_the_third_schema_the_last_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch):
    # One that is taken up again after so many others would begin anew in a rebuild; what is stored has it whole.
    events = [event for event in sessions(KEPT + 5) if event.data.get("tool") != "Edit"]
    async with opened(path) as log:
        await log.append(events[:50])
        await log.append(events[50:])
    with sqlite3.connect(path) as old:
        become_schema_3(old)
    old.close()
    monkeypatch.setattr(draft, "KEPT_SESSIONS", KEPT)
    monkeypatch.setattr("claude_loop.eventlog.old_sessions._KEPT_SESSIONS", KEPT)
    async with opened(path) as log:
        migrated = await log.entities("")
        await log.rebuild()
        assert await log.entities("") == migrated
        assert len([key for key in migrated if key.startswith("agent/*/")]) == KEPT


def become_schema_6(old: sqlite3.Connection) -> None:
    for table in MODELS:
        old.execute(f"UPDATE {table} SET document = json_remove(document, '$.left') WHERE key GLOB 'run/*'")
    old.execute("DELETE FROM completed")
    old.execute("PRAGMA user_version = 6")


async def test_runs_of_the_sixth_schema_are_told_what_was_left_when_they_ended(path: Path):
    scenario = (
        "run.started → story.started story=US-2 → story.started story=US-1 → story.started story=US-3"
        " → story.completed story=US-3 success=true → run.completed success=false → story.started story=US-1"
        " → run.completed success=false → run.started → story.started story=US-9 → story.completed story=US-9 success=true"
    )
    async with opened(path) as log:
        await log.append(as_published(play(scenario).events))
        await log.prune(0, 3, 100)
        expected = await documents(log)
        runs = await log.entities("run/")
    assert sorted(run["left"] for run in runs.values()) == [[], ["US-1", "US-2"]]
    with sqlite3.connect(path) as old:
        become_schema_6(old)
    old.close()
    async with opened(path) as log:
        assert await documents(log) == expected
        await log.rebuild()
        assert await documents(log) == expected

"""The stream that replay and a live page apply."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from claude_loop.events import Event
from claude_loop.progress.keys import run_key
from claude_loop.progress.patches import apply_patches, prd_patches
from tests.unit.progress.scenarios import STALLED_AFTER_MS, World, play

SCENARIO = (
    "prd.started total_stories=2 → story.started → 7 min → test.run passed=1 failed=1 → agent.waiting for=other reason=x "
    "until=2026-01-26T12:10:00Z → 60 min → agent.resumed → story.completed success=false"
)


async def stream(events: list[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


async def patches_of(world: World, **options: Any) -> list[Any]:
    return [
        patch
        async for patch in prd_patches(
            stream(world.events), None, "PRD-1", stalled_after_ms=STALLED_AFTER_MS, **options
        )
    ]


async def test_passing_time_is_in_the_stream_and_goes_back_with_the_next_event():
    world = play(SCENARIO)
    key = run_key(None, "PRD-1", "event-1")
    states = [(patch["seq"], patch["value"]) for patch in await patches_of(world) if patch["path"] == [key, "state"]]
    assert states == [(2, "stalled"), (3, "running"), (4, "waiting"), (5, "running")]
    overdue = [p["seq"] for p in await patches_of(world) if p["path"] == [key, "waiting"] and p["value"] is not None]
    assert overdue == [4, 4]


async def test_what_time_changes_in_two_documents_at_one_moment_is_told_of_both():
    world = play("agent.waiting session=S1 for=rate_limit reason=limit until=2026-01-26T12:10:00Z → 60 min")
    overdue = {
        patch["path"][0].partition("/")[0]
        for patch in await patches_of(world, now_ms=world.now_ms)
        if patch["path"][1:] == ["waiting"] and patch["value"]["overdue"]
    }
    assert overdue == {"run", "session"}


async def test_applied_up_to_any_event_they_give_the_read_model_of_that_event():
    world = play(SCENARIO)
    for upto in range(1, len(world.events) + 1):
        then = World()
        for event in world.events[:upto]:
            then.now_ms = event.received_at
            then.publish(
                Event(event.type, event.data, id=event.id, prd_id="PRD-1", story_id=event.story_id, at=event.at)
            )
        documents: dict[str, Any] = {}
        apply_patches(documents, await patches_of(then))
        assert documents == then.documents


async def test_silence_at_the_end_shows_up_to_now():
    world = play(SCENARIO)
    now = world.now_ms + 400_000
    last = (await patches_of(world, now_ms=now))[-1]
    assert (last["seq"], last["at"], last["value"]) == (6, world.now_ms + 300_000, "stalled")


async def test_after_gives_the_rest_with_what_time_has_done_since():
    world = play(SCENARIO)
    everything = await patches_of(world)
    documents: dict[str, Any] = {}
    apply_patches(documents, [patch for patch in everything if patch["seq"] <= 2 and patch["value"] != "stalled"])
    rest = await patches_of(world, after_seq=2)
    assert rest == [patch for patch in everything if patch["seq"] > 2 or patch["value"] == "stalled"]
    assert rest[0]["value"] == "stalled"
    apply_patches(documents, rest)
    assert documents == world.documents


async def test_a_stream_may_begin_at_documents_known():
    world = play("prd.started total_stories=2 → story.started")
    documents = {key: dict(document) for key, document in world.documents.items()}
    known = dict(documents)
    world.play("story.completed success=true → prd.completed success=true")
    later = stream(world.events[2:])
    patches = [
        patch async for patch in prd_patches(later, None, "PRD-1", stalled_after_ms=STALLED_AFTER_MS, documents=known)
    ]
    apply_patches(documents, patches)
    assert documents == world.documents


async def test_other_prds_do_not_appear():
    world = play("prd.started → prd.started prd=PRD-2 → prd.started project=shop → log.message level=info message=x")
    assert {patch["path"][0] for patch in await patches_of(world)} == {"prd/*/PRD-1", "run/*/PRD-1/event-1"}


def test_a_document_can_go():
    documents: dict[str, Any] = {"a": {"x": 1}}
    apply_patches(documents, [{"seq": 1, "at": 1, "path": ["a"], "value": None}])
    assert documents == {}

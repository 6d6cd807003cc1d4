"""Nothing grows without end, and no text comes in whole."""

from __future__ import annotations

import orjson

from tests.unit.progress.scenarios import World

LARGEST_DOCUMENT = 64 * 1024
LONG = "é\n" * 5_000
ID = "é" * 120


def test_a_run_of_ten_thousand_stories_keeps_its_documents_small():
    world = World()
    world.say("prd.started", total_stories=10_000)
    for n in range(10_000):
        story = f"US-{n}"
        world.say("story.started", story=story)
        if n % 2:
            world.say("story.completed", story=story, success=True)
    assert world.run()["counts"]["claimed"] == 5_000
    assert world.run()["counts"]["running"] == 5_000
    assert max(len(orjson.dumps(document)) for document in world.documents.values()) < 8 * 1024
    world.say("prd.completed", success=True)
    assert len(world.run()["why"]) < 10


def test_hostile_text_and_endless_repetition_stay_within_the_bound():
    world = World()
    failures = [{"name": LONG} for _ in range(50)]
    for n in range(100):
        story = f"{ID}{n % 40}"
        world.say("prd.started", run="R1", title=LONG, owner={"pid": 1, "boot_id": LONG})
        world.say("story.started", story=story, title=LONG)
        world.say("story.started", story=ID, title=LONG)
        world.say("test.run", story=ID, passed=1, failed=99, failures=failures)
        world.say("commit.created", story=ID, commit_hash="a" * 64, subject=LONG, branch=LONG)
        world.say("error.occurred", story=story, error=LONG)
        world.say("progress.updated", story=story, current=1, total=2, message=LONG)
        world.say("story.completed", story=story, success=True)
        world.say("agent.waiting", session=f"{ID}{n}", **{"for": "human", "reason": LONG})
        world.say("agent.waiting", session=f"{ID}x{n}", **{"for": "human", "reason": LONG})
    largest = max((len(orjson.dumps(document)), key) for key, document in world.documents.items())
    assert largest[0] < LARGEST_DOCUMENT, largest


def test_texts_are_one_line_and_cut_with_a_mark():
    world = World()
    world.say("error.occurred", error="a\n\tb  c" + "x" * 1000)
    error = world.run()["last_error"]["error"]
    assert error.startswith("a b cxxx")
    assert (len(error), error[-1]) == (300, "…")

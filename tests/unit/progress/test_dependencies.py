"""What a planned story comes after, as long as that is not done."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_loop.progress.circles import circles
from claude_loop.progress.plans import KEPT_NEEDED_BY
from tests.unit.progress.scenarios import World


def planned(world: World, **needs: str | list[str]) -> World:
    """A plan in which each story depends on those of a word, such as ``C="A B"``."""
    stories: list[dict[str, Any]] = [
        {"story_id": name, "depends_on": each.split() if isinstance(each, str) else each}
        for name, each in needs.items()
    ]
    world.say("plan.updated", stories=stories)
    return world


def said(world: World, *names: str) -> list[tuple[str, list[str]]]:
    return [(world.story(name)["state"], world.story(name)["why"]) for name in names]


def test_a_story_comes_after_what_it_depends_on_until_that_is_done():
    world = planned(World(), A="", B="A", C="A B")
    assert said(world, "A", "B", "C") == [("todo", []), ("todo", ["after A"]), ("todo", ["after A, B"])]
    assert world.run()["counts"]["todo"] == 3
    world.play("story.started story=A → story.completed story=A success=false")
    assert said(world, "B") == [("todo", ["after A"])]
    world.play("story.started story=A → story.completed story=A success=true")
    assert said(world, "B", "C") == [("todo", []), ("todo", ["after B"])]
    world.play("story.started story=A")
    assert said(world, "B", "C") == [("todo", ["after A"]), ("todo", ["after A, B"])]


def test_a_story_that_is_started_all_the_same_is_running():
    world = planned(World(), A="", B="A").play("story.started story=B")
    assert said(world, "B") == [("running", [])]


def test_what_passes_already_holds_up_nothing_until_it_is_begun_again():
    world = World()
    world.say("plan.updated", stories=[{"story_id": "A", "passes": True}, {"story_id": "B", "depends_on": ["A"]}])
    assert said(world, "B") == [("todo", [])]
    world.play("story.started story=A")
    assert said(world, "B") == [("todo", ["after A"])]


def test_what_nobody_has_named_is_ignored_until_somebody_does():
    world = planned(World(), B="A US-99")
    assert said(world, "B") == [("todo", [])]
    planned(world.play("story.started story=A"), B="A US-99")
    assert said(world, "B") == [("todo", ["after A"])]


def test_a_circle_is_said_and_holds_up_nobody_in_it():
    world = planned(World(), A="C", B="A", C="B", D="C", E="E")
    assert said(world, "A", "B", "C") == [("todo", [f"in a circle with {each}"]) for each in "CAB"]
    assert said(world, "D", "E") == [("todo", ["after C"]), ("todo", ["in a circle with E"])]
    planned(world, A="", B="A", C="B", D="C")
    assert said(world, "A", "B", "C") == [("todo", []), ("todo", ["after A"]), ("todo", ["after B"])]


def test_a_new_plan_stands_in_for_the_old_one():
    world = planned(planned(World(), A="", B="A", C="A"), A="", B="C", C="")
    assert said(world, "B", "C") == [("todo", ["after C"]), ("todo", [])]
    world.play("story.completed story=A success=true")
    assert said(world, "B") == [("todo", ["after C"])]


def test_nothing_waits_for_what_it_would_not_hear_of():
    names = {f"S{n}": "A" for n in range(KEPT_NEEDED_BY + 5)}
    world = planned(World(), A="", **names).play("story.completed story=A success=true")
    assert [why for _, why in said(world, *names)] == [[]] * len(names)


def test_a_plan_full_of_dependencies_takes_no_time():
    world, names = World(), [f"S{n}" for n in range(500)]
    begun = time.perf_counter()
    planned(world, **dict.fromkeys(names, names[:32]))
    assert time.perf_counter() - begun < 2
    assert len(world.story("S7")["why"][0]) < 100


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)))
def test_circles_are_those_who_reach_each_other(needs: dict[str, list[str]]):
    everybody = {*needs, *(other for others in needs.values() for other in others)}
    reached = {story: {story} for story in everybody}
    for _ in everybody:
        for story in everybody:
            for other in needs.get(story, ()):
                reached[story] |= reached[other]
    together = circles(needs)
    for one, two in product(everybody, everybody):
        assert (together[one] == together[two]) == (two in reached[one] and one in reached[two])

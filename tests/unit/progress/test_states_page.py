"""docs/states.md says what the reducer does: every row of its tables is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from claude_loop.events import Event
from claude_loop.progress.activity import activity_of
from claude_loop.progress.parts import RunState, SessionState, StoryState
from tests.unit.progress.scenarios import play

PAGE = Path(__file__).parents[3] / "docs" / "states.md"


def rows(header: str) -> list[list[str]]:
    table = PAGE.read_text().split(header, 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


STATES = [(of, state.strip("`"), example.strip("`")) for of, state, _, example in rows("| Of | State |")]
FAMILIES = [
    (family, words)
    for families, words in rows("| First part of the type |")
    for family in re.findall("`(.+?)`", families)
]


def test_the_table_has_every_state_once():
    assert [state for of, state, _ in STATES if of == "story"] == list(get_args(StoryState))
    assert [state for of, state, _ in STATES if of == "run"] == list(get_args(RunState))
    assert [state for of, state, _ in STATES if of == "session"] == list(get_args(SessionState))


@pytest.mark.parametrize(("of", "state", "example"), STATES, ids=[f"{of} {state}" for of, state, _ in STATES])
def test_each_example_gives_its_state(of: str, state: str, example: str):
    world = play(example)
    assert {"story": world.story, "run": world.run, "session": world.session}[of]()["state"] == state


@pytest.mark.parametrize(("family", "words"), FAMILIES, ids=[family for family, _ in FAMILIES])
def test_each_family_counts_as_the_page_says(family: str, words: str):
    expected = {"work": "work", "nothing": "none", "a": "life"}[words.split(":", maxsplit=1)[0].split(maxsplit=1)[0]]
    assert activity_of(f"{family}.something") == expected


@pytest.mark.parametrize(
    ("example", "of", "words"),
    [
        ("story.started → story.completed success=true", "story", ["no test run", "no commit"]),
        (
            (
                "story.started → commit.created commit_hash=a1b2 → test.run passed=1 failed=0 → story.started "
                "→ story.completed success=true"
            ),
            "story",
            ["no test run since attempt 2", "no commit since attempt 2"],
        ),
        (
            "story.started → commit.created commit_hash=a1b2 → test.run passed=9 failed=2 → story.completed success=true",
            "story",
            ["last test run had 2 failing"],
        ),
        (
            "story.started → commit.created commit_hash=a1b2 → test.run passed=0 failed=0 → story.completed success=true",
            "story",
            ["last test run had no passing test"],
        ),
        (
            "prd.started total_stories=3 → prd.completed success=true",
            "run",
            ["3 stories not started", "no story was reported"],
        ),
        ("prd.started → prd.completed success=true", "run", ["no story was reported"]),
        (
            (
                "prd.started → story.started → test.run passed=1 failed=0 → story.completed success=true "
                "→ prd.completed success=true"
            ),
            "run",
            ["US-001: no commit", "how many stories there are was not said"],
        ),
        (
            "prd.started total_stories=3 → story.started → story.blocked → story.started story=US-002 → prd.completed success=true",
            "run",
            ["1 story failing", "1 story blocked", "1 story not started"],
        ),
        (
            "prd.started → story.started → prd.completed success=true",
            "story",
            ["the run ended before attempt 1 was completed"],
        ),
    ],
)
def test_the_words_for_what_is_missing(example: str, of: str, words: list[str]):
    world = play(example)
    assert (world.story() if of == "story" else world.run())["why"] == words
    page = PAGE.read_text()
    for phrase in words:
        general = re.sub(r"^US-\d+: ", "", phrase)
        kind = re.sub(r"\d+ (story|stories) ", "", general)
        assert general in page or kind in page


@pytest.mark.parametrize(
    ("failed", "why"), [([1], ["last test run had 1 failing"]), ([1, 0], []), ([0, 2], ["last test run had 2 failing"])]
)
def test_a_run_without_stories_says_that_its_last_tests_failed(failed: list[int], why: list[str]):
    world = play("prd.started")
    for number in failed:  # as the loop's output shows them
        data = {"passed": 12, "failed": number, "total": 12 + number}
        world.publish(Event("test.run", data, prd_id="PRD-1", source="output", at=world.now_ms))
    world.play("prd.completed success=true")
    assert world.run()["state"] == "done·claimed"
    assert world.run()["why"] == ["no story was reported", *why]

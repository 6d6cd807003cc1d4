"""Plans as ralph and claude-loop keep them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from claude_loop.formats.prd_json import MOST_STORIES, name_of, read_document, read_plan
from tests.support import ROOT

RALPH = {
    "project": "Shop",
    "branchName": "ralph/cart",
    "description": "A cart",
    "userStories": [
        {"id": "US-001", "title": "Add", "acceptanceCriteria": ["x"], "priority": 1, "passes": True, "notes": ""},
        {"id": "US-003", "title": "Pay", "priority": 3, "passes": False},
        {"id": "US-002", "title": "Remove", "priority": 2, "passes": False},
    ],
}
CLAUDE_LOOP = {
    "id": "PRD-007",
    "title": "Payments",
    "userStories": [
        {"id": "A", "title": "First", "priority": 1, "dependencies": ["B"], "fileScope": ["x"]},
        {"id": "B", "title": "Second", "priority": 2, "dependencies": [], "passes": False},
    ],
    "parallelization": {"enabled": True},
}


def plan(document):
    return read_plan(json.dumps(document))


def needs(**dependencies):
    stories = [{"id": name, "dependencies": list(others)} for name, others in dependencies.items()]
    return plan({"userStories": stories})


def test_ralph():
    read = plan(RALPH)
    assert read is not None
    assert read.title == "Shop"
    assert [(s.story_id, s.title, s.priority, s.depends_on, s.passes) for s in read.stories] == [
        ("US-001", "Add", 1, (), True),
        ("US-003", "Pay", 3, (), False),
        ("US-002", "Remove", 2, (), False),
    ]
    assert read.current() is read.stories[2]


def test_claude_loop():
    read = plan(CLAUDE_LOOP)
    assert read is not None
    assert read.blocked() == {"A"}
    assert read.current() is read.stories[1]
    assert read.data()["stories"][0] == {
        "story_id": "A", "title": "First", "priority": 1, "depends_on": ["B"], "passes": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "path", "name"),
    [
        (RALPH, "/w/scripts/ralph/prd.json", "cart"),
        (CLAUDE_LOOP, "/w/prd.json", "PRD-007"),
        ({"project": "Shop"}, "/w/prds/active/PRD-9/prd.json", "PRD-9"),
        ({"project": "Shop"}, "/w/app/prd.json", "Shop"),
        ({"project": ""}, "/w/app/prd.json", "app"),
        ({"id": "x\n", "branchName": 3, "project": "y" * 200}, "prd.json", "x"),
        ({"id": "\x07bell"}, "prd.json", "prd"),
    ],
)
def test_a_prd_has_a_name(document, path, name):
    assert name_of(document, path) == name


def test_circles_are_named_and_block_nothing_in_themselves():
    read = needs(A="B", B="C", C="A", D="A", E="E", F="")
    assert read is not None
    assert {frozenset(cycle) for cycle in read.cycles} == {frozenset("ABC"), frozenset("E")}
    assert read.blocked() == {"D"}
    assert read.current() is not None
    assert read.data()["cycles"]


def test_a_circle_that_waits_for_something_else_is_blocked():
    read = needs(A="BX", B="A", X="")
    assert read is not None
    assert read.blocked() == {"A"}


def test_everything_depending_on_everything_ends():
    names = [f"S{n}" for n in range(MOST_STORIES + 100)]
    read = plan({"userStories": [{"id": name, "dependencies": names} for name in names]})
    assert read is not None
    assert len(read.stories) == MOST_STORIES
    assert read.cycles


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        json.dumps(RALPH).encode()[:-9],
        b"[]",
        b"null",
        b'{"userStories": 3}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_what_is_no_plan_is_none(text):
    assert read_plan(text) is None


def test_an_empty_plan_is_one():
    read = plan({"userStories": []})
    assert read is not None
    assert read.current() is None


def test_strange_stories_are_left_out_and_strange_values_forgotten():
    read = plan(
        {
            "stories": [
                3, None, {"title": "nameless"}, {"id": ""}, {"id": "x" * 129}, {"id": True},
                {"id": 7, "title": 5, "priority": "high", "dependencies": "US-1", "passes": "true"},
                {"id": "7", "title": "again", "passes": True},
                {"id": "8", "priority": True, "dependencies": ["7", "7", None, {}, "nobody"], "passes": True},
            ]
        }
    )  # fmt: skip
    assert read is not None
    assert [(s.story_id, s.title, s.priority, s.depends_on, s.passes) for s in read.stories] == [
        ("7", "", None, (), False),
        ("8", "", None, ("7", "nobody"), True),
    ]
    assert read_document('{"userStories": [], "x": NaN}') is not None


def test_the_wrapper_can_import_it_alone():
    program = "import sys; before = set(sys.modules); import claude_loop.formats.prd_json; print(sorted(set(sys.modules) - before - set(sys.stdlib_module_names)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = [name for name in eval(done.stdout) if name.split(".")[0] not in sys.stdlib_module_names]
    ours = ["claude_loop", "claude_loop.formats", "claude_loop.formats.prd_json", "claude_loop.json_text"]
    assert sorted(loaded) == ours


def test_half_a_character_is_none():
    plan = read_plan(b'{"userStories": [{"id": "A", "title": "so \\ud83d"}]}')
    assert plan.stories[0].title == "so \ufffd"

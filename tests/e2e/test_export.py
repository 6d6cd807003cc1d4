"""`claude-loop export` against a real daemon."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.cli.replay_file import PLACE, replay_page
from claude_loop.client import DaemonClient, ServerError
from claude_loop.progress.patches import apply_patches
from tests.e2e.test_cli import Person

HOSTILE = "</script><script>alert(1)</script><!-- \u2028 & 'x"


@pytest.fixture
def person(home: Path) -> Iterator[Person]:
    person = Person(home)
    person.run("up")
    for project, story in (("shop", "US-1"), ("shop", "US-2"), ("blog", "US-9")):
        person.run("emit", "story.started", "--prd", "P", "--project", project, "--story", story, "--wait")
    person.run("emit", "log.message", "--prd", "P", "--project", "shop", "level=info", f"message={HOSTILE}", "--wait")
    yield person
    person.run("down")


def test_events_as_lines_and_rows(person: Person, tmp_path: Path):
    printed = person.run("export", "--prd", "P", "--project", "shop")
    assert printed.returncode == 0, printed.stderr
    events = [json.loads(line) for line in printed.stdout.split("\n")[:-1]]
    assert [event["type"] for event in events] == ["story.started", "story.started", "log.message"]
    assert events[2]["data"]["message"] == HOSTILE
    target = tmp_path / "events.csv"
    written = person.run("export", "--format", "csv", "--output", str(target))
    assert written.stdout == ""
    assert "Wrote 4 events" in written.stderr
    with target.open(newline="", encoding="utf-8") as file:
        assert [row["seq"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert [file.name for file in tmp_path.iterdir()] == ["events.csv"]


def test_of_a_prd_that_is_not_there_nothing_is_written(person: Person, tmp_path: Path):
    target = tmp_path / "events.jsonl"
    target.write_text("from before\n")
    refused = person.run("export", "--prd", "NOPE", "--output", str(target))
    assert refused.returncode == 2
    assert "claude-loop prds" in refused.stderr
    assert [file.read_text() for file in tmp_path.iterdir()] == ["from before\n"]


def test_a_replay_in_one_page(person: Person):
    page = f'<script type="application/json" id="replay">{PLACE}</script>'
    text = replay_page(DaemonClient(person.home), page, "P", "shop")
    (inside,) = re.findall(r'<script type="application/json" id="replay">(.*?)</script>', text, re.DOTALL)
    assert text.count("<") == 2, "nothing but the page's own tags"
    replay = json.loads(inside)
    assert (replay["prd"], replay["project"], len(replay["events"])) == ("P", "shop", 3)
    assert replay["events"][2]["data"]["message"] == HOSTILE
    documents = replay["documents"]
    apply_patches(documents, replay["patches"])
    assert sum(key.startswith("story/") for key in documents) == 2


def test_a_replay_of_an_ambiguous_name_asks_for_the_project(person: Person):
    with pytest.raises(ServerError) as refusal:
        replay_page(DaemonClient(person.home), PLACE, "P", None)
    assert (refusal.value.code, refusal.value.field) == ("ambiguous_prd", "project")


def test_what_cannot_be_exported(person: Person, tmp_path: Path):
    refused = person.run("export", "--output", str(tmp_path / "no" / "file"))
    assert refused.returncode == 2
    assert f"There is no directory {tmp_path / 'no'}." in refused.stderr

"""Lines about what reports its end say what the read model has proof of."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

import pytest

from claude_loop.cli.lines import describe
from claude_loop.cli.read_model import ReadModel
from claude_loop.clock import rfc3339
from claude_loop.errors import ClaudeLoopError, DaemonUnreachable
from claude_loop.events import Event
from claude_loop.progress.views import Moment, prd_detail
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, World, play

PROVEN = "test.run passed=2 failed=0 → commit.created commit_hash=abc1"


class Daemon:
    """Answers `GET /api/prds/{id}` for a world, as the daemon does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        self.failure: ClaudeLoopError | None = None

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {key: document for key, document in sorted(self.world.documents.items()) if key.startswith(prefix)}

    def get(self, path: str, query: dict[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        self.asked += 1
        prd_id = unquote(path.removeprefix("/api/prds/"))
        moment = Moment(self.world.now_ms, STALLED_AFTER_MS, START_MS)
        detail = asyncio.run(prd_detail(self, prd_id, moment, project=query["project"], run_id=query["run_id"]))
        return json.loads(json.dumps(detail))


def as_sent(event: Event) -> dict[str, Any]:
    ids = {key: getattr(event, key) for key in ("seq", "type", "project", "prd_id", "story_id", "run_id", "data")}
    return ids | {"timestamp": rfc3339(event.at), "received_at": rfc3339(event.received_at)}


def told(world: World, daemon: Daemon | None = None) -> list[str]:
    """What is printed about each end, when all of it is read afterwards."""
    read_model = ReadModel(daemon or Daemon(world))  # type: ignore[arg-type]
    ends = [event for event in world.events if event.type.endswith(".completed")]
    lines = [describe(as_sent(event), read_model) for event in ends]
    return [f"{line.mark} {line.text}" for line in lines]


@pytest.mark.parametrize(
    ("scenario", "lines"),
    [
        (
            (
                f"prd.started total_stories=1 → story.started → 10 min → {PROVEN} → story.completed success=true"
                " → prd.completed success=true"
            ),
            ["✓ done, verified · 10m03s", "■ done, verified · 1 story · 10m05s"],
        ),
        (
            (
                f"prd.started total_stories=1 → story.started → test.run passed=1 failed=1 → story.started → {PROVEN}"
                " → story.completed success=true → prd.completed success=true"
            ),
            ["✓ done, verified · 5s · 2 attempts", "■ done, verified · 1 story · 7s"],
        ),
        (
            (
                "prd.started total_stories=2 → story.started → test.run passed=2 failed=0 → story.completed success=true"
                " → prd.completed success=true"
            ),
            [
                "~ done, claimed: no commit · 2s",
                "■ done, claimed: US-001: no commit; 1 story not started · 1 of 2 stories done · 4s",
            ],
        ),
        (
            "prd.started → story.started → story.completed success=true → prd.completed success=true",
            [
                "~ done, claimed: no test run; no commit · 1s",
                (
                    "■ done, claimed: US-001: no test run, no commit; how many stories there are was not said"
                    " · 1 story · 3s"
                ),
            ],
        ),
        (
            "prd.started total_stories=2 → story.started → story.completed success=false → prd.completed success=false",
            ["✗ failed", "■ finished without success · 0 of 2 stories done · 3s"],
        ),
        (
            "prd.started total_stories=1 → run.completed success=false exit_code=3 → prd.completed success=true",
            [
                "■ run failed, exit status 3",
                "■ finished without success · the command ended with status 3 · 0 of 1 story done · 2s",
            ],
        ),
        ("prd.started → prd.completed success=true → iteration.started iteration=2", ["■ says it is finished"]),
    ],
)
def test_what_is_proven_is_said(scenario, lines):
    assert told(play(scenario)) == lines


def test_an_earlier_attempt_is_not_judged_by_a_later_one():
    world = play("prd.started → story.started → story.completed success=true → story.started")
    assert told(world) == ["~ says it is done"]
    world.play(f"{PROVEN} → story.completed success=true")
    assert told(world) == ["~ says it is done", "✓ done, verified · 4s · 2 attempts"]


def test_events_of_earlier_runs_are_judged_by_their_own_run():
    world = play(
        f"prd.started total_stories=1 → story.started → {PROVEN} → story.completed success=true"
        " → prd.completed success=true → prd.started total_stories=1 → story.started"
        " → story.completed success=true → prd.completed success=true"
    )
    lines = told(world)
    assert [line[:16] for line in lines] == [
        "✓ done, verified",
        "■ done, verified",
        "~ done, claimed:",
        "■ done, claimed:",
    ]


def test_runs_side_by_side_are_told_apart_by_the_id_they_give():
    world = play(
        f"prd.started run=A → prd.started run=B → story.started run=A → {PROVEN.replace('→', 'run=A →')} run=A"
        " → story.started run=B → story.completed run=B success=true → story.completed run=A success=true"
    )
    assert [line[:16] for line in told(world)] == ["~ done, claimed:", "✓ done, verified"]


def test_a_later_failing_test_takes_verified_away():
    world = play(f"prd.started → story.started → {PROVEN} → story.completed success=true → test.run passed=1 failed=1")
    assert told(world) == ["~ done, claimed: last test run had 1 failing · 3s"]


def test_the_daemon_is_asked_once_for_what_it_already_knew_of():
    stories = " → ".join(f"story.completed story=S-{n} success=true" for n in range(50))
    world = play(f"prd.started → {stories}")
    daemon = Daemon(world)
    assert len(told(world, daemon)) == 50
    assert daemon.asked == 1


def test_it_is_asked_again_for_news():
    world = play("prd.started → story.completed success=true")
    daemon = Daemon(world)
    read_model = ReadModel(daemon)  # type: ignore[arg-type]
    assert read_model.story(as_sent(world.events[-1]))["why"] == ["no test run", "no commit"]  # type: ignore[index]
    world.play(f"{PROVEN} → story.completed success=true")
    assert read_model.story(as_sent(world.events[-1]))["state"] == "done·verified"  # type: ignore[index]
    assert daemon.asked == 2


def test_where_the_daemon_cannot_be_asked_the_line_says_what_the_event_says():
    world = play(f"prd.started → story.started → {PROVEN} → story.completed success=true → prd.completed success=true")
    daemon = Daemon(world)
    daemon.failure = DaemonUnreachable("gone")
    assert told(world, daemon) == ["~ says it is done", "■ says it is finished"]


def test_answers_do_not_pile_up():
    world = World()
    for number in range(40):
        world.play(f"story.completed prd=P-{number} success=true")
    read_model = ReadModel(Daemon(world))  # type: ignore[arg-type]
    assert all(read_model.story(as_sent(event)) for event in world.events)
    assert len(read_model._answers) <= 16

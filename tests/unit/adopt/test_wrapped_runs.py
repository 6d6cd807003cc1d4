"""Which runs are looked after, and what is no run."""

from __future__ import annotations

import json
import os

import pytest

from claude_loop.adopt import wrapped_runs
from claude_loop.adopt.wrapped_runs import WrappedRun, keep_looking, parse_run, read_small_file
from claude_loop.errors import ShuttingDown


async def test_a_run_is_found_once_the_log_knows_it_and_until_it_is_closed(world):
    runs = world.wrapped()
    assert await runs.current() == []
    await world.begin("R1")
    (run,) = await runs.current()
    assert (run.run_id, run.prd_id, run.cwd, run.script, run.ended_at) == (
        "R1", "PRD-1", world.cwd, world.cwd / "ralph.sh", None,
    )  # fmt: skip
    await world.end()
    for _ in range(2):
        (run,) = await runs.current()
        assert run.ended_at is not None
    runs.close(run)
    assert await runs.current() == []


async def test_a_run_whose_owner_vanished_is_over(world):
    await world.begin("R1")
    await world.publish("system.run_vanished", {"pid": 1}, run_id="R1", source="daemon")
    (run,) = await world.wrapped().current()
    assert run.ended_at is not None


async def test_a_run_that_the_log_does_not_know_yet_waits(world):
    (world.runs / "R2").mkdir()
    note = {"run_id": "R2", "prd_id": "P", "cwd": "/", "started_at": 1}
    (world.runs / "R2/run.json").write_text(json.dumps(note))
    assert await world.wrapped().current() == []


async def test_what_the_wrapper_would_not_write_is_refused(world, tmp_path):
    await world.begin("R1")
    (world.runs / "file").write_text("")
    (world.runs / "empty").mkdir()
    for name, text in {"cut": "{", "list": "[]", "other": '{"run_id": "R1"}', "nul": '{"run_id": "nul"}'}.items():
        (world.runs / name).mkdir()
        (world.runs / name / "run.json").write_text(text)
    (world.runs / "link").mkdir()
    (world.runs / "link/run.json").symlink_to(world.runs / "R1/run.json")
    (world.runs / "fifo").mkdir()
    os.mkfifo(world.runs / "fifo/run.json")
    assert [run.run_id for run in await world.wrapped().current()] == ["R1"]


@pytest.mark.parametrize(
    "note",
    [
        {"started_at": 10**30},
        {"started_at": -1},
        {"cwd": "/a\0b"},
        {"script": "\ud800"},
        {"prd_file": "a\0b"},
    ],
)
async def test_times_and_paths_that_cannot_be_are_refused(world, note):
    await world.begin("R1", **note)
    await world.begin("R2")
    assert [run.run_id for run in await world.wrapped().current()] == ["R2"]


async def test_what_is_nested_too_deeply_is_no_note(world):
    await world.begin("R1")
    (world.runs / "R1/end.json").write_text("[" * 100_000)
    (run,) = await world.wrapped().current()
    assert run.ended_at is None
    await world.begin("R2")
    (world.runs / "R2/run.json").write_text("[" * 100_000)
    assert [run.run_id for run in await world.wrapped().current()] == ["R1"]


def test_small_files_are_regular_and_small(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert read_small_file(tmp_path / "large", 11) == b"x" * 11
    with pytest.raises(ValueError, match="11 bytes"):
        read_small_file(tmp_path / "large", 10)
    with pytest.raises(ValueError, match="regular"):
        read_small_file(tmp_path)


def test_ids_of_events_follow_from_run_and_name_and_fit(tmp_path):
    for run_id in ("R1", "x" * 100):
        run = WrappedRun(run_id, None, "P", tmp_path)
        first, second = (run.event("commit.created", {}, f"git.{'a' * 64}", "git", 1) for _ in range(2))
        other = run.event("commit.created", {}, f"git.{'b' * 64}", "git", 1)
        assert first.id == second.id != other.id
        assert len(first.id) <= 128


def test_a_note_without_words_is_a_run_all_the_same():
    note = {"run_id": "R", "prd_id": "P", "cwd": "/w", "started_at": 5_000, "script": 7, "prd_file": 7}
    run = parse_run(json.dumps(note).encode(), "R")
    assert (run.script, run.prd_file, run.started_at) == (None, None, 5)


async def test_without_a_run_it_looks_less_often(monkeypatch):
    pauses = []
    monkeypatch.setattr(wrapped_runs, "until_tick", lambda _now, every: pauses.append(every) or 0)
    found = [False, True, True, OSError("no disk"), False]

    async def look():
        if not found:
            raise ShuttingDown("The daemon is stopping.")
        if isinstance(outcome := found.pop(0), OSError):
            raise outcome
        return outcome

    await keep_looking(look, list, 1.0, 4.0, "a test")
    assert pauses == [4.0, 1.0, 1.0, 1.0, 4.0]

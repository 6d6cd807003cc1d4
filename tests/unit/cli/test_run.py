"""`run`: what it prepares before it becomes the wrapper, and when it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.requires("linux")

CONTEXT = "echo $CLAUDE_LOOP_PROJECT/$CLAUDE_LOOP_PRD/$CLAUDE_LOOP_RUN"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository called `shop`."""
    folder = tmp_path / "shop"
    (folder / ".git").mkdir(parents=True)
    return folder


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "claude_loop", "run", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CLAUDE_LOOP_AUTOSTART": "0"} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def events(home: Path) -> list[dict[str, Any]]:
    lines = [
        line for path in sorted((home / "spool").glob("*.jsonl")) for line in path.read_text().splitlines() if line
    ]
    return sorted(map(json.loads, lines), key=lambda event: event["timestamp"])


def plans(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (home / "runs").glob("*/run.json")]


def test_a_run_is_opened_and_everything_below_knows_it(home, folder):
    done = run(folder, "--prd", "SHOP-7", "--title", "Cart", "--", "bash", "-c", f"{CONTEXT}; exit 3")
    (plan,) = plans(home)
    assert (done.stdout, done.stderr, done.returncode) == (f"shop/SHOP-7/{plan['run_id']}\n", "", 3)
    assert (plan["project"], plan["prd_id"], plan["title"], plan["tty"]) == ("shop", "SHOP-7", "Cart", False)
    begun, ended = events(home)
    assert [event["type"] for event in (begun, ended)] == ["run.started", "run.completed"]
    assert {event["run_id"] for event in (begun, ended)} == {plan["run_id"]}
    assert {event["source"] for event in (begun, ended)} == {"run"}
    assert begun["data"]["command"].startswith("bash -c 'echo $CLAUDE_LOOP_PROJECT")
    assert "CLAUDE_LOOP_PROJECT" not in json.dumps(plan)  # what is on the command line may be secret
    assert begun["data"]["owner"] == plan["owner"]
    assert (ended["data"]["success"], ended["data"]["exit_code"]) == (False, 3)
    directory = home / "runs" / plan["run_id"]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("place", "content", "named"),
    [
        ("prd.json", '{"project": "Cart"}', "Cart"),
        ("scripts/ralph/prd.json", '{"project": "Cart", "branchName": "ralph/totals"}', "totals"),
        ("prds/active/X-1/prd.json", '{"project": "Active"}', "X-1"),
        ("prd.json", "{", "true"),
        ("prd.json", '["US-001"]', "true"),
        ("elsewhere.json", '{"project": "Elsewhere"}', "true"),
    ],
)
def test_the_prd_has_the_name_that_its_file_gives_it(home, folder, place, content, named):
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text(content)
    assert run(folder, "true").returncode == 0
    (plan,) = plans(home)
    assert plan["prd_id"] == named
    assert plan["prd_file"] == (None if place == "elsewhere.json" else str(folder / place))


def test_what_passes_as_it_begins_is_written_down(home, folder):
    stories = [{"id": "US-1", "passes": True}, {"id": "US-2", "passes": False}]
    (folder / "prd.json").write_text(json.dumps({"userStories": stories}))
    assert run(folder, "true").returncode == 0
    (plan,) = plans(home)
    assert plan["passing"] == ["US-1"]
    told = events(home)[1]
    assert (told["type"], told["source"], told["run_id"]) == ("plan.updated", "prd.json", plan["run_id"])
    assert [(story["story_id"], story["passes"]) for story in told["data"]["stories"]] == [
        ("US-1", True), ("US-2", False),
    ]  # fmt: skip


def test_a_file_that_is_named_goes_first(home, folder):
    (folder / "prd.json").write_text('{"project": "Here"}')
    (folder / "other.json").write_text('{"project": "Other"}')
    assert run(folder, "--prd-file", "other.json", "true").returncode == 0
    assert [plan["prd_id"] for plan in plans(home)] == ["Other"]
    assert run(folder, "--prd-file", "none.json", "true").returncode == 2


@pytest.mark.parametrize("content", ["[" * 100_000, '{"project": ' + "9" * 5000 + "}", '{"project"', "\0"])
def test_a_plan_that_cannot_be_read_keeps_nobody_from_working(home, folder, content):
    (folder / "prd.json").write_text(content)
    done = run(folder, "echo", "done")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    assert [plan["prd_id"] for plan in plans(home)] == ["echo"]


def test_names_that_are_no_ids_are_made_to_fit(home, folder):
    program = folder / "a\nb"
    program.write_text("#!/bin/sh\necho done\n")
    program.chmod(0o755)
    done = run(folder, str(program), CLAUDE_LOOP_PROJECT="p" * 200)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
    (plan,) = plans(home)
    assert (plan["prd_id"], plan["project"]) == ("a\N{REPLACEMENT CHARACTER}b", "p" * 128)


def test_a_prd_that_is_no_id_is_refused(home, folder):
    done = run(folder, "--prd", "x\ny", "--", "echo", "done")
    assert (done.stdout, done.returncode) == ("", 2)
    assert "--prd is to have" in done.stderr


def test_options_behind_the_command_are_its_own(home, folder):
    done = run(folder, "echo", "--prd", "X", "--", "-h")
    assert done.stdout == "--prd X -- -h\n"
    assert plans(home)[0]["prd_id"] == "echo"


def test_an_option_that_there_is_not_is_no_command(home, folder):
    done = run(folder, "--nope", "--", "true")
    assert (done.returncode, "No such option: --nope" in done.stderr) == (2, True)
    assert plans(home) == []


def test_a_slip_of_the_pen_is_no_run(home, folder):
    (folder / "data").write_text("no program")
    assert run(folder, "no-such-command").returncode == 127
    assert run(folder, "./data").returncode == 126
    assert not home.exists()


def test_a_script_that_does_not_say_what_runs_it_is_bashs(home, folder):
    (folder / "loop.sh").write_text("[[ $1 == one ]] && echo bash ran it")
    (folder / "loop.sh").chmod(0o755)
    assert run(folder, "./loop.sh", "one").stdout == "bash ran it\n"


def test_inside_a_run_the_same_prd_is_not_opened_again(home, folder):
    again = f"{sys.executable} -m claude_loop run"
    done = run(
        folder,
        "--prd",
        "P1",
        "bash",
        "-c",
        f"{CONTEXT}; {again} bash -c '{CONTEXT}'; {again} --prd P2 bash -c '{CONTEXT}'",
    )
    same, inner, other = done.stdout.split()
    assert inner == same
    assert other != same
    assert sorted(plan["prd_id"] for plan in plans(home)) == ["P1", "P2"]
    assert [event["prd_id"] for event in events(home)] == ["P1", "P2", "P2", "P1"]


def test_a_run_that_a_script_has_named_is_kept(home, folder):
    ids = {"CLAUDE_LOOP_RUN": "nightly", "CLAUDE_LOOP_PRD": "P1"}
    assert run(folder, "bash", "-c", CONTEXT, **ids).stdout == "shop/P1/nightly\n"
    assert run(folder, "bash", "-c", CONTEXT, **ids).stdout != "shop/P1/nightly\n"
    assert run(folder, "--prd", "P2", "bash", "-c", CONTEXT, **ids).stdout != "shop/P2/nightly\n"
    assert len(plans(home)) == 3
    assert "../up" not in run(folder, "bash", "-c", CONTEXT, **ids | {"CLAUDE_LOOP_RUN": "../up"}).stdout


def test_silenced_it_only_runs_the_command(home, folder):
    assert run(folder, "bash", "-c", "echo $PPID fine", CLAUDE_LOOP_DISABLE="1").stdout.endswith(" fine\n")
    assert not home.exists()


def test_a_home_that_cannot_be_used_keeps_nobody_from_working(home, folder):
    home.write_text("a file")
    done = run(folder, "bash", "-c", "echo works; exit 4")
    assert (done.stdout, done.returncode) == ("works\n", 4)
    assert done.stderr.startswith("claude-loop: this run is not shown: ")

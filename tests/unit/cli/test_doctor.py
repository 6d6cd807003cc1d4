"""`claude-loop doctor` as a person sees it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from claude_loop.cli import cli
from claude_loop.paths import Home
from claude_loop.settings import config_file


def run(*arguments: str):
    return CliRunner().invoke(cli, ["doctor", *arguments])


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person without agents, whose port nobody has."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_LOOP_PORT", "0")
    monkeypatch.chdir(tmp_path)


def test_each_finding_is_a_line_and_its_fix_another(home):
    outcome = run()
    assert outcome.exit_code == 0
    assert f"✓ home: {home} is not there yet; the first start makes it.\n" in outcome.stdout
    assert "! daemon: No daemon runs; what scripts emit waits in the spool.\n    claude-loop up\n" in outcome.stdout
    assert outcome.stderr.startswith("0 problems, ")
    assert not home.exists(), "it only looks"


def test_a_problem_is_status_1_and_gone_when_its_fix_was_run(home):
    Home(home).prepare()
    (home / "token").symlink_to("/elsewhere")
    outcome = run("--json")
    assert outcome.exit_code == 1
    told = json.loads(outcome.stdout)
    assert told["problems"] == 1
    (finding,) = [one for one in told["findings"] if one["level"] == "problem"]
    assert finding["check"] == "home.token"
    assert shlex.split(finding["fix"]) == ["rm", str(home / "token")]
    (home / "token").unlink()
    assert run().exit_code == 0


def test_nothing_of_what_is_secret_is_shown(home, monkeypatch):
    canary = "canary7f3a9"
    Home(home).prepare()
    (home / "token").write_text(canary)
    (home / "token").chmod(0o600)
    (home / "rejected" / "lines.jsonl").write_text(json.dumps({"file": "x", "reason": "no object", "line": canary}))
    monkeypatch.setenv("CLAUDE_LOOP_TOKEN", canary)
    monkeypatch.setenv("CLAUDE_LOOP_URL", f"https://{canary}:{canary}@127.0.0.1/{canary}")
    config_file().parent.mkdir(parents=True)
    for text in (
        f'[[notify]]\nname = "a"\nurls = ["nonsense://{canary}"]\n[heartbeat]\nurl = "http://{canary}"',
        f'[[notify]]\nname = "a"\nurls = ["{canary}"]',
        f'[[notify]]\nname = "a"\nurls = [{canary}',
        f'[heartbeat]\nurl = ["{canary}"]',
        f'[[notify]]\nname = "a"\ncommand = ["sh", "{canary}"]',
    ):
        config_file().write_text(text)
        for arguments in ((), ("--json",)):
            outcome = run(*arguments)
            assert "rejected" in outcome.stdout
            assert canary not in outcome.output


def test_control_characters_do_not_reach_the_terminal(home):
    Home(home).prepare()
    (home / "rejected" / "lines.jsonl").write_text(json.dumps({"file": "a\x1b[2J", "reason": "b\x07"}))
    assert "\x1b" not in run().stdout
    assert "\x1b" not in run("--json").stdout


def test_it_changes_nothing(home):
    Home(home).prepare()
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in home.rglob("*")}
    run()
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in home.rglob("*")} == before
    assert sorted(os.listdir(home.parent)) == ["home"]

"""`claude-loop hooks`, run as a command on settings of all kinds."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from claude_loop.hook_settings import EVENTS
from tests.support import BIN, ROOT

HOOK = BIN / "claude-loop-hook"
THEIRS = """{
    "model": "opus",
    "hooks": {
        "PreToolUse": [
            {"matcher": "Bash", "hooks": [{"type": "command", "command": "guard --strict"}]}
        ],

        "Stop": [ { "hooks": [ { "type": "command", "command": "say \\"done\\"" } ] } ]
    },
    "permissions": { "allow": [ "Bash(ls:*)" ] }
}"""


class Machine:
    """A person's home directory and a repository in it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.repository = self.home / "shop"
        (self.repository / ".git").mkdir(parents=True)
        (self.repository / "src").mkdir()
        self.claude = self.home / ".claude" / "settings.json"
        self.codex = self.home / ".codex" / "hooks.json"

    def run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "claude_loop", "hooks", *arguments],
            env=kept | {"CLAUDE_LOOP_HOME": os.environ["CLAUDE_LOOP_HOME"]} | environ,
            cwd=self.repository / "src",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def have(self, text: str) -> None:
        self.claude.parent.mkdir(exist_ok=True)
        self.claude.write_text(text)

    def hooks(self) -> dict[str, Any]:
        return json.loads(self.claude.read_text())["hooks"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_install_adds_ours_and_touches_nothing_else(machine: Machine) -> None:
    machine.have(THEIRS)
    machine.claude.chmod(0o640)
    status, out, err = machine.run("install")
    assert (status, out) == (0, "")
    assert f"added {len(EVENTS['claude'])} hooks" in err
    text = machine.claude.read_text()
    characters = iter(text)
    assert all(character in characters for character in THEIRS)  # nothing is gone, and all in its order
    assert '    "permissions": { "allow": [ "Bash(ls:*)" ] }\n}' in text
    hooks = machine.hooks()
    assert set(hooks) == set(EVENTS["claude"])
    assert "WorktreeCreate" not in hooks
    assert hooks["PreToolUse"][0]["hooks"][0]["command"] == "guard --strict"
    for groups in hooks.values():
        (handler,) = groups[-1]["hooks"]
        assert handler["type"] == "command"
        assert handler["command"] == f"{shlex.quote(str(HOOK))} claude"
        assert "async" not in handler
    assert machine.claude.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "\n",
        "{}",
        "{ }\n",
        '{"a":1}',
        THEIRS,
        THEIRS + "\n",
        THEIRS.replace("\n", "\r\n"),
        '{\n\t"hooks": {}\n}',
    ],
)
def test_uninstall_puts_back_every_byte(machine: Machine, text: str | None) -> None:
    if text is not None:
        machine.claude.parent.mkdir()
        machine.claude.write_bytes(text.encode())
    assert machine.run("install")[0] == 0
    assert machine.run("install")[2].startswith(f"{machine.claude} has the hooks already")
    assert machine.run("uninstall")[0] == 0
    if text is None:
        assert not machine.claude.parent.exists()
    else:
        assert machine.claude.read_bytes() == text.encode()
    assert "no hooks of ours" in machine.run("uninstall")[2]


def test_after_others_changed_the_file_only_ours_go(machine: Machine) -> None:
    machine.have(THEIRS)
    machine.run("install")
    changed = machine.claude.read_text().replace('"opus"', '"sonnet"')
    machine.claude.write_text(changed)
    assert machine.run("uninstall")[0] == 0
    assert machine.claude.read_text() == THEIRS.replace('"opus"', '"sonnet"')


def test_handlers_of_others_in_a_group_with_ours_stay(machine: Machine) -> None:
    mixed = {
        "hooks": {
            "Stop": [
                {
                    "hooks": [
                        {"type": "command", "command": "a"},
                        {"type": "command", "command": "/old/claude-loop-hook claude"},
                    ]
                }
            ]
        }
    }
    machine.have(json.dumps(mixed))
    assert "1 of 19 hooks" in machine.run("status", "--agent", "claude")[1]
    machine.run("install")
    assert machine.hooks()["Stop"][0] == {"hooks": [{"type": "command", "command": "a"}]}
    assert len(machine.hooks()["Stop"]) == 2
    machine.run("uninstall")
    assert machine.hooks() == {"Stop": [{"hooks": [{"type": "command", "command": "a"}]}]}


def test_a_dry_run_shows_the_difference_and_changes_nothing(machine: Machine) -> None:
    machine.have(THEIRS)
    status, out, _ = machine.run("install", "--dry-run")
    assert status == 0
    assert out.startswith(f"--- {machine.claude}\n+++ {machine.claude}\n@@")
    gone = [line for line in out.splitlines()[2:] if line.startswith("-")]
    assert len(gone) <= 2  # lines that got a comma, or something behind them
    assert machine.claude.read_text() == THEIRS
    assert not Path(os.environ["CLAUDE_LOOP_HOME"]).exists()
    machine.run("install")
    after = machine.claude.read_text()
    assert machine.run("uninstall", "--dry-run")[1].count("\n-") > 19
    assert machine.claude.read_text() == after


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  // comment\n  "a": 1\n}', "line 2"),
        ('{"hooks": {}', "line 1"),
        ("[]", "line 1: the settings should be an object"),
        ('{\n  "hooks": []\n}', "line 2: `hooks` should be an object"),
        ('{\n  "hooks": {\n    "Stop": {}\n  }\n}', "line 3: `hooks.Stop` should be a list"),
        ('{\n  "hooks": {\n    "Stop": ["x"]\n  }\n}', "line 3: each entry of `hooks.Stop` should be an object"),
        ('{"hooks": {\n"Stop": [{"hooks": "x"}]}}', "line 2: `hooks` in an entry of `hooks.Stop` should be a list"),
        ('{"hooks": {}, "hooks": {}}', '"hooks" twice'),
    ],
)
def test_what_is_not_understood_is_refused_and_left_alone(machine: Machine, text: str, said: str) -> None:
    machine.have(text)
    for command in ("install", "uninstall"):
        status, out, err = machine.run(command)
        assert (status, out) == (4, "")
        assert str(machine.claude) in err
        assert said in err
    assert machine.claude.read_text() == text
    assert "cannot be read" in machine.run("status")[1]


def test_what_is_read_only_or_no_text_is_refused(machine: Machine) -> None:
    machine.have(THEIRS)
    machine.claude.chmod(0o400)
    status, _, err = machine.run("install")
    assert (status, "read-only" in err) == (4, True)
    assert machine.claude.read_text() == THEIRS
    machine.claude.chmod(0o600)
    machine.claude.write_bytes(b'{\n"a": "\xff"}')
    status, _, err = machine.run("install")
    assert (status, "line 2" in err) == (4, True)


def test_the_project_and_other_places(machine: Machine) -> None:
    status, _, err = machine.run("install", "--project")
    assert (status, "--user" in err) == (0, True)
    assert (machine.repository / ".claude" / "settings.json").exists()
    assert not machine.claude.exists()
    elsewhere = machine.home / "elsewhere"
    machine.run("install", CLAUDE_CONFIG_DIR=str(elsewhere))
    machine.run("install", "--agent", "codex", CODEX_HOME=str(elsewhere))
    assert sorted(os.listdir(elsewhere)) == ["hooks.json", "settings.json"]
    out = machine.run("status")[1].splitlines()
    assert [line.partition(" (")[0] for line in out] == [
        "Claude Code, user: not installed",
        "Claude Code, project: installed",
        "Codex, user: not installed",
        "Codex, project: not installed",
    ]


def test_codex_has_its_own_hooks_and_a_step_that_is_left(machine: Machine) -> None:
    machine.codex.parent.mkdir()
    machine.codex.with_name("config.toml").write_text("[features]\nhooks = false\n")
    status, _, err = machine.run("install", "--agent", "codex")
    assert status == 0
    assert "/hooks" in err
    assert "--dangerously-bypass-hook-trust" in err
    assert "hooks = false" in err
    hooks = json.loads(machine.codex.read_text())["hooks"]
    assert set(hooks) == set(EVENTS["codex"])
    assert hooks["SessionEnd"][0]["hooks"][0]["timeout"] <= 3
    assert hooks["Stop"][0]["hooks"][0]["command"].endswith(" codex")


def test_status_says_when_the_hook_is_gone_or_hooks_are_off(machine: Machine) -> None:
    machine.have('{"disableAllHooks": true}')
    assert "disableAllHooks" in machine.run("install")[2]
    assert "all hooks are off" in machine.run("status")[1]
    machine.claude.write_text(machine.claude.read_text().replace(str(HOOK), "/gone/claude-loop-hook"))
    assert "/gone/claude-loop-hook is not there" in machine.run("status")[1]
    machine.run("install")
    assert "is not there" not in machine.run("status")[1]
    machine.run("uninstall")
    assert machine.claude.read_text() == '{"disableAllHooks": true}'


def test_a_link_of_install_is_what_is_written(machine: Machine) -> None:
    link = machine.home / ".local" / "bin" / "claude-loop-hook"
    link.parent.mkdir(parents=True)
    link.symlink_to(HOOK)
    machine.run("install")
    assert machine.hooks()["Stop"][0]["hooks"][0]["command"] == f"{link} claude"


def test_the_command_works_from_anywhere(machine: Machine, home: Path, tmp_path: Path) -> None:
    odd = tmp_path / "it's a clone"
    odd.mkdir()
    (odd / ".local" / "bin").mkdir(parents=True)
    (odd / ".local" / "bin" / "claude-loop-hook").symlink_to(HOOK)
    machine.home = odd
    machine.claude = odd / ".claude" / "settings.json"
    assert machine.run("install")[0] == 0
    line = machine.hooks()["Stop"][-1]["hooks"][0]["command"]
    done = subprocess.run(
        ["sh", "-c", line],
        input=b'{"hook_event_name":"Stop"}',
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "CLAUDE_LOOP_HOME": str(home)},
        check=True,
        capture_output=True,
    )
    assert done.stdout + done.stderr == b""
    assert len(list((home / "spool").iterdir())) == 1

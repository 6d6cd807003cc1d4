"""`claude-loop completion`, with the shells that are here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from claude_loop.cli import COMMANDS, cli
from tests.support import ROOT

# The shell's own completion, asked as a key press would: which function, on these words, and what it found.
ASK = """
eval "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
complete -p claude-loop >/dev/null || exit 9
_claude_loop_completion claude-loop
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell: str) -> str:
    outcome = CliRunner().invoke(cli, ["completion", shell])
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    return outcome.stdout


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`claude-loop` on PATH."""
    program = tmp_path / "claude-loop"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m claude_loop "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def completed(*words: str) -> list[str]:
    line = ["bash", "--norc", "-c", ASK, "bash", script("bash"), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return [one for one in done.stdout.split("\n") if one]


def test_bash_completes_commands_and_options(command):
    assert completed("claude-loop", "") == list(COMMANDS)
    assert completed("claude-loop", "do") == ["down", "doctor"]
    assert completed("claude-loop", "tail", "--no-f") == ["--no-follow"]
    assert completed("claude-loop", "hooks", "") == ["install", "status", "uninstall"]
    assert completed("claude-loop", "hooks", "install", "--agent", "c") == ["claude", "codex"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_us(shell):
    assert "_CLAUDE_LOOP_COMPLETE" in script(shell)


def test_another_shell_is_wrong_usage():
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


def test_completing_a_command_s_name_loads_no_command():
    """The first key press must be quick: it happens many times a day."""
    program = (
        "import sys; from claude_loop.cli import cli\n"
        "try: cli.main(prog_name='claude-loop')\n"
        "finally: print(*sys.modules)"
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "_CLAUDE_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": "claude-loop do", "COMP_CWORD": "1"
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert "plain,down\n" in done.stdout
    loaded = set(done.stdout.split())
    assert not {"asyncio", "http.client", "pydantic", "aiohttp", "claude_loop.cli.tail", "claude_loop.launch"} & loaded

"""`claude-loop completion`, with the shells that are here."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from functools import partial

import pytest
from click.testing import CliRunner

from claude_loop.cli import COMMANDS, cli
from tests.support import ROOT, until

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
    assert completed("claude-loop", "tail", "--type", "story.c") == ["story.completed"]


@pytest.mark.requires("fish")
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("claude-loop do", {"down", "doctor"}),
        ("claude-loop tail --no-f", {"--no-follow"}),
        ("claude-loop hooks install --agent c", {"claude", "codex"}),
    ],
)
def test_fish_completes_commands_and_options(command, tmp_path, typed, found):
    (tmp_path / "script.fish").write_text(script("fish"))
    asked = f'source {tmp_path}/script.fish; complete -C "{typed}"'
    done = subprocess.run(["fish", "--no-config", "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert {line.partition("\t")[0] for line in done.stdout.split("\n") if line} == found
    assert done.stderr == ""


@pytest.mark.requires("zsh")
def test_zsh_completes_at_a_key_press(command, tmp_path, monkeypatch):
    """It completes at its prompt alone: a terminal of its own, and Tab."""
    (tmp_path / "script.zsh").write_text(script("zsh"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("zsh", ["zsh", "-f", "-i"])
    said = bytearray()

    def shown(text: str) -> bool:
        if select.select([terminal], [], [], 0)[0]:
            said.extend(os.read(terminal, 65_536))
        return text.encode() in said

    def types(keys: str, *answers: str) -> None:
        del said[:]
        os.write(terminal, keys.encode())
        for answer in answers:
            until(partial(shown, answer), what=answer)

    try:
        types(f"PS1='%% '; autoload -U compinit; compinit -u; source {tmp_path}/script.zsh; print re''ady\n", "ready")
        types("claude-loop do\t", "down", "doctor")
        types("\x15claude-loop tail --no-f\t", "--no-follow")
        types("\x15claude-loop hooks install --agent co\t", "codex")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


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

"""The frame around the commands: their list, their help, and how errors become words and a status."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from claude_loop import cli as package
from claude_loop import errors
from claude_loop.cli import COMMANDS, ELSEWHERE, cli, exit_status
from claude_loop.client import ServerError
from tests.support import ROOT, unmeasured


def run(*arguments: str):
    return CliRunner().invoke(cli, arguments)


def test_help_lists_every_command_with_one_line():
    outcome = run("--help")
    assert outcome.exit_code == 0
    assert not outcome.stderr
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in outcome.stdout
        assert line in outcome.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_explains_itself(name):
    outcome = run(name, "--help")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith(f"Usage: cli {name}")
    # Every option says what it does.
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


@pytest.mark.parametrize("arguments", [("nonsense",), ("tail", "--nonsense"), ("emit",), ("tail", "-n", "-1")])
def test_wrong_usage_is_status_2(arguments):
    outcome = run(*arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert "Error: " in outcome.stderr


def test_a_mistyped_command_is_suggested():
    assert "No such command 'sho'. Did you mean show" in run("sho").stderr
    assert "No such command 'logs'. Did you mean tail" in run("logs").stderr
    assert {each.lstrip("-") for names in ELSEWHERE.values() for each in names} <= {*COMMANDS, "help", "version"}
    assert not ELSEWHERE.keys() & COMMANDS.keys()
    assert "Did you mean" not in run("nonsense").stderr


@pytest.mark.parametrize("name", ["hooks", "notify", "service", "token"])
def test_the_line_of_each_subcommand_is_whole(name):
    assert not [line for line in run(name, "--help").stdout.split("Commands:")[1].splitlines() if line.endswith("...")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.DaemonUnreachable("x"), 3),
        (errors.InvalidRequest("x"), 2),
        (errors.NotSupported("x"), 1),
        (errors.Forbidden("x"), 4),
        (errors.ForeignFile("x"), 4),
        (errors.PortTaken("x"), 1),
        (errors.AlreadyRunning("x"), 4),
        (errors.UnsafeHome("x"), 1),
        (errors.Busy("x"), 1),
        (ServerError(401, {"code": "unauthorized"}), 4),
        (ServerError(403, {"code": "origin_refused"}), 4),
        (ServerError(421, {"code": "host_refused"}), 4),
        (ServerError(404, {"code": "not_found"}), 2),
        (ServerError(409, {"code": "ambiguous_prd"}), 2),
        (ServerError(422, {"code": "invalid_event"}), 2),
        (ServerError(429, {"code": "busy"}), 1),
        (ServerError(503, {"code": "storage_failed"}), 1),
        (ServerError(500, {}), 1),
    ],
)
def test_each_error_has_its_status(error, status):
    assert exit_status(error) == status


def failing(monkeypatch: pytest.MonkeyPatch, failure: BaseException):
    @click.command()
    def command() -> None:
        raise failure

    monkeypatch.setattr(package.LazyGroup, "get_command", lambda *_: command)
    return run("fail")


def test_an_error_is_a_sentence_and_a_next_step(monkeypatch):
    outcome = failing(monkeypatch, errors.DaemonUnreachable("No daemon\x1b[2J answers."))
    assert outcome.exit_code == 3
    assert outcome.stdout == ""
    assert outcome.stderr == "claude-loop: No daemon\ufffd[2J answers.\n  `claude-loop up` starts it.\n"


def test_a_failure_of_the_system_names_the_file(monkeypatch):
    outcome = failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/full"))
    assert (outcome.exit_code, outcome.stderr) == (1, "claude-loop: /full: No space left on device\n")


def test_an_interruption_is_silent(monkeypatch):
    outcome = failing(monkeypatch, KeyboardInterrupt())
    assert (outcome.exit_code, outcome.output) == (130, "")


def test_a_reader_that_has_gone_is_no_failure(home):
    """`claude-loop --help | head -0`, but certain to be late."""
    program = (
        "import sys; from claude_loop.cli import main; sys.argv[1:] = ['locks', '--json']; sys.stdin.read(); main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


def test_an_encoding_without_our_symbols_is_no_failure(home):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "claude_loop", "emit", "Not-A-Type"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "is not a type" in done.stderr


def test_emit_loads_nothing_that_takes_time():
    program = "import sys, claude_loop.cli.emit; print(*sys.modules)"
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, env=unmeasured(), capture_output=True, text=True, timeout=30, check=True)
    slow = {"asyncio", "hashlib", "http.client", "pydantic", "aiohttp", "rich", "orjson", "ulid"}
    assert not slow & set(done.stdout.split())


def test_garbage_is_looked_for_once_a_command_runs(home):
    gc.disable()
    try:
        CliRunner().invoke(cli, ["emit", "--help"])
        assert gc.isenabled()
    finally:
        gc.enable()


def test_the_daemon_loads_nothing_that_it_has_no_use_for():
    program = (
        "import sys; from claude_loop.cli import serve\n"
        "with serve._without(*serve._NEEDLESS): import claude_loop.daemon\n"
        "print(*sys.modules); import requests"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "claude_loop.daemon" in loaded
    assert not {"apprise", "greenlet", "pygments", "requests", "rich", "urllib3", "websocket"} & loaded

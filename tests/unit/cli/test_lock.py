from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from claude_loop.cli.lock import locks
from claude_loop.session_lock import SessionLock, list_locks
from tests.support import PATIENCE, ROOT, alive, until

PROGRAM = "from claude_loop.cli.lock import lock; lock(prog_name='claude-loop lock')"
LOCK = [sys.executable, "-c", PROGRAM]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / ".claude-loop" / "locks"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCK, *arguments], capture_output=True, text=True, timeout=30, check=False, **options)


@contextlib.contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*LOCK, *arguments], text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def free(name: str = "x") -> bool:
    lock = SessionLock(name)
    had = lock.acquire(blocking=False)
    lock.release()
    return had


# --- status -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 75, 255])
def test_the_status_is_the_command_s_own(status: int, folder: Path) -> None:
    done = run("x", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "err\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_a_command_ended_by_a_signal_is_128_and_the_signal(number: int, folder: Path) -> None:
    done = run("x", "--", "sh", "-c", f"ulimit -c 0; kill -{number} $$")
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert list(folder.iterdir()) == []


def test_a_command_that_cannot_be_run(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "no-permission").write_text("#!/bin/sh\n")
    (tmp_path / "no-program").write_text("\0\1\2")
    (tmp_path / "no-program").chmod(0o755)
    (tmp_path / "no-interpreter").write_text("#!/not/there\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    for command, status, sentence in [
        ("not-a-program", 127, "claude-loop lock: not-a-program: No such file or directory\n"),
        ("./no-interpreter", 127, "claude-loop lock: ./no-interpreter: No such file or directory\n"),
        ("./no-permission", 126, "claude-loop lock: ./no-permission: Permission denied\n"),
        ("./no-program", 126, "claude-loop lock: ./no-program: Exec format error\n"),
        (str(tmp_path), 126, f"claude-loop lock: {tmp_path}: Permission denied\n"),
    ]:
        done = run("x", "--", command)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", sentence)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "options", [["--no-wait"], ["--timeout", "0.2"], ["--timeout", "-1"], ["--timeout=inf", "--no-wait"]]
)
def test_75_when_the_lock_was_not_had(options: list[str]) -> None:
    with SessionLock("x"):
        start = time.monotonic()
        done = run("x", *options, "--", "echo", "ran")
        assert time.monotonic() - start < 10
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith(f"claude-loop lock: Lock “x” is held by pid {os.getpid()} on ")
    assert done.stderr.count("\n") == 1


def test_a_holder_that_has_ended_is_not_named_as_one_that_lives(tmp_path: Path) -> None:
    script = (
        f"{sys.executable} -m claude_loop lock x -- sh -c 'echo $$ > {tmp_path}/pid; exec sleep 60' & echo $!; wait"
    )
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True) as shell:
        try:
            assert shell.stdout is not None
            holder = int(shell.stdout.readline())
            until((tmp_path / "pid").exists)
            os.kill(holder, signal.SIGKILL)
            until(lambda: not alive(holder))
            told = run("x", "--no-wait", "--", "echo", "ran").stderr
            assert f"is held by what is left of the ended pid {holder} on " in told
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def test_75_when_the_lock_cannot_be_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "x.lock").symlink_to("elsewhere")
    done = run("x", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("claude-loop lock: ")
    assert done.stderr.endswith("x.lock cannot be used for a lock: it is a symbolic link.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x"],
        ["x", "--"],
        ["", "--", "true"],
        ["x", "--", ""],
        ["x", "--timeout", "nan", "--", "true"],
        ["x", "--wrong", "--", "true"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], tmp_path: Path) -> None:
    assert run(*arguments).returncode == 2
    assert not (tmp_path / ".claude-loop").exists()


# --- the command's surroundings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--timeout", "3", "x"], ["x", "--timeout", "3"], ["--timeout=3", "--no-wait", "x"]]
)
def test_options_go_before_the_dashes_and_what_follows_is_the_command_s(arguments: list[str]) -> None:
    done = run(*arguments, "--", "printf", "%s|", "--no-wait", "--", "a b", "")
    assert done.stdout == "--no-wait|--|a b||"


def test_the_command_has_our_streams_environment_and_directory(tmp_path: Path) -> None:
    done = run("x", "--", "sh", "-c", 'cat; pwd; echo "$HELLO"', input="in\n", env={**os.environ, "HELLO": "there"})
    assert done.stdout == f"in\n{tmp_path}\nthere\n"


SIGNALS = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]


def signals(status: str) -> dict[str, int]:
    """Masks by name, without signals 32 and 33: those are the C library's own."""
    return {name: int(mask, 16) & ~0x180000000 for name, mask in (line.split() for line in status.splitlines())}


@pytest.mark.requires("linux")
def test_the_command_s_signals_are_as_if_run_directly() -> None:
    direct = subprocess.run(SIGNALS, capture_output=True, text=True, check=True, timeout=30).stdout
    assert signals(run("x", "--", *SIGNALS).stdout) == signals(direct)


@pytest.mark.requires("linux")
def test_ignored_and_blocked_signals_stay_so() -> None:
    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    assert signals(run("x", "--", *SIGNALS, preexec_fn=prepare).stdout) == {
        "SigBlk:": 1 << signal.SIGUSR2 - 1,
        "SigIgn:": 1 << signal.SIGHUP - 1 | 1 << signal.SIGINT - 1,
    }


def test_a_parent_that_ignores_its_children_does_not_cost_the_status() -> None:
    done = run("x", "--", "sh", "-c", "exit 7", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert done.returncode == 7


def test_closed_streams_are_not_replaced_by_the_lock_file(folder: Path) -> None:
    command = [
        "sh",
        "-c",
        '"$@" <&- >&- 2>&-',
        "sh",
        *LOCK,
        "x",
        "--",
        "sh",
        "-c",
        "echo spoilt; cat .claude-loop/locks/x.lock > copy",
    ]
    subprocess.run(command, timeout=30, check=True)
    assert json.loads(Path("copy").read_text())["lock_name"] == "x"


def test_nothing_heavy_is_imported() -> None:
    script = """
import sys
import claude_loop.cli.lock
heavy = {"asyncio", "pydantic", "structlog", "orjson", "aiohttp", "socketio", "subprocess", "rich"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)


# --- exclusion and death ----------------------------------------------------------------------------------------


def test_commands_run_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    script = "read n < counter; sleep 0.02; echo $((n + 1)) > counter"
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(started("x", "--", "sh", "-c", script)) for _ in range(8)]
        assert [process.wait(30) for process in running] == [0] * 8
    assert (tmp_path / "counter").read_text() == "8\n"


def test_a_killed_wrapper_leaves_the_name_locked_until_its_command_ends(tmp_path: Path) -> None:
    script = "echo $$ > pid.new; mv pid.new pid; read line < gate; echo done > finished"
    os.mkfifo("gate")
    with started("x", "--", "sh", "-c", script) as wrapper:
        until(Path("pid").exists)
        os.kill(wrapper.pid, signal.SIGKILL)
        assert wrapper.wait(30) == -signal.SIGKILL
        assert not free()
        assert [info.state for info in list_locks()] == ["held"]
        second = run("x", "--no-wait", "--", "true")
        assert second.returncode == 75
        Path("gate").write_text("go\n")
        until(Path("finished").exists)
        until(free, what="the lock is free once the command has ended")


def test_killing_wrapper_and_command_frees_the_name() -> None:
    with started("x", "--", "sleep", "60", start_new_session=True) as wrapper:
        until(lambda: list_locks() and not free())
        child = until(lambda: children_of(wrapper.pid))[0]
        os.kill(wrapper.pid, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        until(free)


def test_a_background_process_of_the_command_does_not_keep_the_lock() -> None:
    done = run("x", "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    background = int(done.stdout)
    try:
        assert done.returncode == 0
        assert free()
    finally:
        os.kill(background, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# --- signals ----------------------------------------------------------------------------------------------------


TRAP = """
for name in INT TERM HUP QUIT USR1 USR2; do trap "echo $name >> signals" $name; done
trap 'echo TERM >> signals; exit 5' TERM
touch ready
while :; do sleep 0.02; done
"""


def test_signals_are_passed_on_and_the_status_stays_the_command_s(folder: Path) -> None:
    with started("x", "--", "bash", "-c", TRAP) as wrapper:
        until(Path("ready").exists)
        for name in ("INT", "HUP", "QUIT", "USR1", "USR2"):
            os.kill(wrapper.pid, getattr(signal, f"SIG{name}"))
            until(lambda name=name: Path("signals").exists() and name in Path("signals").read_text().split())
        os.kill(wrapper.pid, signal.SIGTERM)
        assert wrapper.wait(30) == 5
    assert Path("signals").read_text().split() == ["INT", "HUP", "QUIT", "USR1", "USR2", "TERM"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_waiting_ends_the_wait(number: int) -> None:
    with SessionLock("x"), started("x", "--", "touch", "ran", stderr=subprocess.PIPE) as wrapper:
        assert wrapper.stderr is not None
        began = time.monotonic()
        until(lambda: polls(wrapper.pid) or time.monotonic() > began + 15)
        os.kill(wrapper.pid, number)
        assert wrapper.wait(30) == -number
        assert wrapper.stderr.read() == ""
    assert not Path("ran").exists()


def polls(pid: int) -> bool:
    """Whether a process sleeps between two tries; where the kernel does not say, False."""
    try:
        return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False


# Writes down each signal at the instant of its delivery, so that two of a kind are two; ends with the first TERM.
COUNTER = """
import os, signal
ours, theirs = os.pipe()
os.set_blocking(theirs, False)
signal.set_wakeup_fd(theirs)
for name in ("INT", "QUIT", "TERM"):
    signal.signal(getattr(signal, "SIG" + name), lambda *_: None)
open("ready", "w").close()
number = None
while number != signal.SIGTERM:
    number = os.read(ours, 1)[0]
    with open("signals", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
"""


@pytest.mark.requires("linux")
def test_ctrl_c_at_a_terminal_reaches_the_command_once(folder: Path) -> None:
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with started(
        "x", "--", sys.executable, "-c", COUNTER,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_terminal,
    ) as wrapper:  # fmt: skip
        os.close(theirs)
        until(Path("ready").exists)
        for typed, name in ((b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT")):
            os.write(ours, typed)
            until(lambda name=name: Path("signals").exists() and name in Path("signals").read_text())
        os.kill(wrapper.pid, signal.SIGTERM)
        assert wrapper.wait(30) == 0
    os.close(ours)
    # The wrapper takes its signals in order, so what it had passed on would stand before SIGTERM.
    assert Path("signals").read_text().split() == ["SIGINT", "SIGQUIT", "SIGTERM"]
    assert list(folder.iterdir()) == []


# --- locks ------------------------------------------------------------------------------------------------------


def listed(*arguments: str) -> Result:
    return CliRunner().invoke(locks, arguments)


@pytest.fixture
def stale() -> int:
    """A lock whose holder was killed; its pid."""
    with started("stale", "--", "sleep", "60") as wrapper:
        child = until(lambda: list_locks() and children_of(wrapper.pid))[0]
        wrapper.kill()
        os.kill(child, signal.SIGKILL)
        until(lambda: free("other") and [info.state for info in list_locks()] == ["stale"])
        return wrapper.pid


def test_locks_are_listed_with_their_holders(stale: int) -> None:
    with SessionLock("a/b"):
        result = listed()
        assert result.exit_code == 0
        header, *rows = [line.split() for line in result.stdout.splitlines()]
        assert header == ["NAME", "STATE", "PID", "HOST", "SINCE"]
        assert [row[:4] for row in rows] == [
            ["a/b", "held", str(os.getpid()), os.uname().nodename],
            ["stale", "stale", str(stale), os.uname().nodename],
        ]
        first, second = json.loads(listed("--json").stdout)
        assert first["name"] == "a/b"
        assert first["file"].endswith("/.claude-loop/locks/a%2Fb.lock")
        assert (second["state"], second["pid"]) == ("stale", stale)
        assert first["since"] > second["since"]
        since = datetime.fromisoformat(first["since"]).astimezone()
        assert rows[0][4:] == [f"{since:%Y-%m-%d}", f"{since:%H:%M:%S}"]


def test_what_cannot_be_read_is_listed_with_the_reason(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "x.lock").symlink_to("/nowhere")
    result = listed()
    assert result.exit_code == 0
    assert [line.split(maxsplit=5) for line in result.stdout.splitlines()] == [
        ["NAME", "STATE", "PID", "HOST", "SINCE", "WHY"],
        ["x", "unknown", "?", "?", "?", "it is a symbolic link"],
    ]
    (only,) = json.loads(listed("--json").stdout)
    assert (only["name"], only["state"], only["reason"]) == ("x", "unknown", "it is a symbolic link")


def test_no_locks_is_said_on_stderr() -> None:
    result = listed()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no locks in .claude-loop/locks\n")
    assert listed("--json").stdout == "[]\n"


def test_control_characters_never_reach_the_terminal() -> None:
    with SessionLock("evil\x1b]0;title\x07\n"):
        result = listed()
    assert "evil\\x1b]0;title\\x07\\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 2


def test_cleanup_removes_what_nobody_holds(stale: int, folder: Path) -> None:
    with SessionLock("held"):
        assert listed("cleanup").stdout == "removed 0 stale lock files\n"
        assert listed("cleanup", "--max-age", "0").stdout == "removed 1 stale lock file\n"
        assert [path.name for path in folder.iterdir()] == ["held.lock"]


def test_a_directory_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLAUDE_LOOP_LOCKS_DIR", str(tmp_path / "file"))
    for arguments in ([], ["cleanup"]):
        result = listed(*arguments)
        assert result.exit_code == 1
        assert "Not a directory" in result.stderr

"""With input or output redirected: everything passes as it would without the wrapper."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PATIENCE, alive, until
from tests.unit.wrapper.outer import kept, wrapped, wrapper_of

pytestmark = pytest.mark.requires("linux")

BINARY = bytes(range(256)) * 40_000


def run(directory: Path, *command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*wrapper_of(directory), *command], capture_output=True, timeout=30, check=False, **options)


def test_binary_output_passes_unchanged_and_is_kept(directory, tmp_path):
    (tmp_path / "binary").write_bytes(BINARY)
    done = run(directory, "cat", str(tmp_path / "binary"))
    assert done.stdout == BINARY
    assert kept(directory) == BINARY


def test_input_is_the_commands_own(directory):
    done = run(directory, "bash", "-c", "cat; exit 4", input=BINARY)
    assert (done.stdout, done.returncode) == (BINARY, 4)


def test_it_leaves_the_rest_of_the_input_to_whoever_comes_next(directory):
    script = f'{wrapped(directory)} bash -c "read line; echo got \\$line"; cat'
    done = subprocess.run(["bash", "-c", script], input=b"one\ntwo\n", capture_output=True, check=True, timeout=30)
    assert done.stdout == b"got one\ntwo\n"


def test_stdout_and_stderr_stay_apart(directory):
    done = run(directory, "bash", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_what_is_printed_is_kept_soon_also_when_nothing_follows(directory):
    command = [*wrapper_of(directory), "bash", "-c", "for i in 1 2 3; do echo $i; sleep 0.01; done; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        until(lambda: kept(directory) == b"1\n2\n3\n")
        process.stdin.close()
        assert process.wait(30) == 0


def test_one_file_for_both_keeps_their_order(directory):
    script = f"{wrapped(directory)} bash -c 'for i in {{1..200}}; do echo $i; echo $i >&2; done' 2>&1 | cat"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=30)
    wanted = "".join(f"{i}\n{i}\n" for i in range(1, 201)).encode()
    assert done.stdout == wanted
    assert kept(directory) == wanted


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 250", 250), ("kill -9 $$", -9), ("kill -15 $$", -15)]
)
def test_it_ends_as_the_command_ends(directory, script, status):
    assert run(directory, "bash", "-c", script).returncode == status


def test_the_command_hears_that_nobody_reads_any_more(directory):
    script = f"{wrapped(directory)} yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"y\n141\n"


def test_a_substitution_waits_for_what_was_left_running(directory):
    done = subprocess.run(
        ["bash", "-c", f"x=$({wrapped(directory)} bash -c '(sleep 0.3; echo late) & echo early'); echo $x"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == b"early late\n"


def test_signals_reach_the_command_once(directory, tmp_path):
    script = "trap 'echo term' TERM; trap 'echo usr; exit 3' USR1; echo $$ > pid; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [*wrapper_of(directory), "bash", "-c", script], stdout=subprocess.PIPE, cwd=tmp_path, start_new_session=True
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"term\n"
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=PATIENCE)[0] == b"usr\n"
    assert process.returncode == 3


def test_a_script_that_ends_its_whole_group_is_told_once(directory):
    script = "trap 'echo heard' TERM; kill 0; sleep 0.3; echo ended; exit 5"
    done = run(directory, "bash", "-c", script, start_new_session=True)
    assert (done.stdout, done.returncode) == (b"heard\nended\n", 5)


IN_BACKGROUND = """
trap '' USR2
{wrapped} bash -c "trap 'echo heard; exit 3' TERM; echo > ready; for i in {{1..100}}; do sleep 0.05; done; echo over" &
until [ -e ready ]; do sleep 0.01; done
{kill}
wait $!; echo $?
"""


@pytest.mark.parametrize(
    "kill",
    ["kill -TERM $!", "/bin/kill -TERM $!", "kill -USR2 0; sleep 0.2; kill -TERM $!", "trap '' TERM; kill -TERM 0"],
    ids=["by a shell", "by a process that is gone", "after another for all", "with all"],
)
def test_a_script_of_the_same_group_reaches_the_command_once(directory, tmp_path, kill):
    script = IN_BACKGROUND.format(wrapped=wrapped(directory), kill=kill)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, timeout=30, cwd=tmp_path, start_new_session=True
    )
    assert done.stdout == b"heard\n3\n"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def counting(directory, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that tells of each TERM and ends with USR1, in a process group of its own."""
    script = "trap 'echo term' TERM; trap 'exit 3' USR1; echo > ready; while :; do sleep 0.02; done"
    command = [*wrapper_of(directory), "bash", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, start_new_session=True) as process:
        try:
            until((tmp_path / "ready").exists)
            until(lambda: len(children(process.pid)) == 2)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("times", [1, 3])
def test_what_is_sent_to_whoever_looks_like_it_reaches_the_command(directory, counting, times):
    for _ in range(times):
        alike = [each for each in (counting.pid, *children(counting.pid)) if str(directory) in cmdline(each)]
        assert alike == [counting.pid]
        os.kill(counting.pid, signal.SIGTERM)
        assert counting.stdout.readline() == b"term\n"


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_signals_for_all_and_for_it_alone_take_turns(counting):
    for _ in range(3):
        before = children(counting.pid)
        os.killpg(counting.pid, signal.SIGTERM)
        assert counting.stdout.readline() == b"term\n"
        until(lambda: len(children(counting.pid)) == 2 and children(counting.pid) != before)  # noqa: B023 - called here
        os.kill(counting.pid, signal.SIGTERM)
        assert counting.stdout.readline() == b"term\n"
    os.kill(counting.pid, signal.SIGUSR1)
    assert (counting.stdout.read(), counting.wait(PATIENCE)) == (b"", 3)


def test_who_stands_by_ends_with_it_also_when_it_was_stopped(counting):
    standing_by = children(counting.pid)[1]
    os.kill(standing_by, signal.SIGSTOP)
    os.kill(counting.pid, signal.SIGTERM)
    assert counting.stdout.readline() == b"term\n"
    os.kill(counting.pid, signal.SIGUSR1)
    assert counting.wait(PATIENCE) == 3
    until(lambda: not alive(standing_by))


def test_without_anybody_to_stand_by_a_signal_still_arrives(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "bash").symlink_to("/bin/bash")
    script = "trap 'echo term; exit 4' TERM; echo > ready; while :; do read -t 0.05 < <(:) || :; done"
    command = [*wrapper_of(directory), "bash", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, start_new_session=True) as process:
        until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGTERM)
        assert (process.communicate(timeout=PATIENCE)[0], process.returncode) == (b"term\n", 4)


def test_the_command_is_hung_up_when_the_wrapper_is_killed(directory, tmp_path):
    script = "trap 'echo > heard; exit' HUP; echo $$ > pid; while :; do sleep 0.05; done"
    process = subprocess.Popen([*wrapper_of(directory), "bash", "-c", script], cwd=tmp_path, stdout=subprocess.DEVNULL)
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    process.kill()
    process.wait()
    until((tmp_path / "heard").exists)
    until(lambda: not alive(pid))


def test_what_the_command_ignored_before_it_ignores(directory):
    script = f"trap '' HUP INT; {wrapped(directory)} bash -c 'kill -HUP $$; kill -INT $$; echo alive'"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"alive\n"


def test_further_descriptors_are_passed_on(directory):
    done = subprocess.run(
        ["bash", "-c", f"{wrapped(directory)} bash -c 'cat <&7; cat $0' <(echo substituted) 7<<<seven"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == b"seven\nsubstituted\n"


def test_a_closed_stdout_gets_in_nobodys_way(directory):
    script = f"{wrapped(directory)} bash -c 'echo lost; echo err >&2; exit 6' >&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (6, b"err\n")


# -- at a terminal ---------------------------------------------------------------------------------------------------


def test_what_is_a_terminal_stays_one(shell, directory):
    line = "bash -c 'test -t 0; echo $?; test -t 1; echo $?; stty size <&1' < /dev/null"
    assert shell.run(f"{wrapped(directory)} {line}") == shell.run(line) == ("1\r\n0\r\n24 80\r\n", 0)
    assert kept(directory) == b"1\n0\n24 80\n"
    (directory / "output.000001").unlink()
    line = "bash -c 'test -t 2; echo $?; test -t 1; echo $?' | cat"
    assert shell.run(f"{wrapped(directory)} {line}") == shell.run(line) == ("0\r\n1\r\n", 0)


def test_ctrl_c_ends_a_pipeline(shell, directory):
    shell.type(f"{wrapped(directory)} bash -c 'echo begun; sleep 60' | cat\n")
    shell.expect("\nbegun")
    shell.type("\x03")
    shell.expect("READY> ")
    assert shell.run("echo ${PIPESTATUS[0]}")[0] == "130\r\n"


def test_ctrl_c_is_heard_once(shell, directory):
    script = 'trap "echo heard; ((n++))" INT; echo begun; until ((n)); do sleep 0.05; done; sleep 0.3; echo $n times'
    shell.type(f"{wrapped(directory)} bash -c '{script}' | cat\n")
    shell.expect("\nbegun")
    shell.type("\x03")
    # `cat` dies of it, so the words go nowhere: the kept ones tell.
    shell.expect("READY> ")
    until(lambda: b"heard" in kept(directory))
    assert kept(directory).count(b"heard") == 1


def test_ctrl_z_and_fg_in_a_pipeline(shell, directory):
    shell.type(f"{wrapped(directory)} bash -c 'echo begun; sleep 0.5; echo woke' | cat\n")
    shell.expect("\nbegun")
    shell.type("\x1a")
    shell.expect("Stopped.*READY> ")
    shell.type("fg\n")
    shell.expect("\nwoke\r\n.*READY> ")


def test_a_pager_reads_the_keys_itself(shell, directory):
    shell.type(f"{wrapped(directory)} seq 1000 | less -X\n")
    shell.expect("\r\n23\r\n:")
    shell.type("q")
    shell.expect("READY> ")

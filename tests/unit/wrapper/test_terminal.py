"""A command in a terminal behaves under the wrapper as it does without it: each test does both, in a real shell."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, alive, until
from tests.unit.wrapper.outer import Shell, kept, wrapped

pytestmark = [pytest.mark.requires("linux"), pytest.mark.slow]


@pytest.fixture(params=["bare", "wrapped"])
def prefix(request: pytest.FixtureRequest, directory: Path) -> str:
    return wrapped(directory) if request.param == "wrapped" else ""


SAME = [
    "bash -c 'test -t 0 && test -t 1 && test -t 2 && stty size'",
    "bash -c 'exit 7'",
    "bash -c 'kill -TERM $$'",
    "bash -c 'kill -SEGV $$'",
    "bash -c 'echo out; echo err >&2'",
    "stty -a",
    "bash -c 'echo $COLUMNS $TERM; tty > /dev/null && echo a terminal; kill -9 $$'",
    "python3 -c 'import os; print(os.get_terminal_size(), os.getpgrp() == os.tcgetpgrp(0))'",
    "bash -c 'trap \"echo hung up\" HUP; (sleep 0.1; exit 3) & wait $!; exit $?'",
    "bash -c 'echo to a file >&2' 2> err.txt; cat err.txt",
    "printf '\\001\\377\\000\\r\\n\\033[31mred\\033[0m'",
]


@pytest.mark.parametrize("line", SAME)
def test_shows_and_ends_the_same(shell, directory, line):
    bare = shell.run(line)
    assert shell.run(f"{wrapped(directory)} {line}") == bare


def test_what_is_shown_is_kept_soon_also_when_nothing_follows_or_it_is_stopped(shell, directory):
    shell.type(
        f"{wrapped(directory)} bash -c 'for i in 1 2 3; do echo $i; sleep 0.01; done; read line; echo 4; kill -STOP $$; echo 5'\n"
    )
    until(lambda: kept(directory) == b"1\r\n2\r\n3\r\n")
    shell.type("go on\n")
    shell.expect("Stopped")
    assert kept(directory).endswith(b"4\r\n")
    shell.type("fg\n")
    until(lambda: kept(directory).endswith(b"5\r\n"))


def test_ctrl_c_ends_the_command_and_is_what_the_shell_sees(shell, prefix):
    shell.type(f"{prefix} bash -c 'echo begun; sleep 60'\n")
    shell.expect("\nbegun")
    shell.type("\x03")
    shell.expect("READY> ")
    assert shell.run("echo $?") == ("130\r\n", 0)


def test_ctrl_c_that_is_caught_ends_nothing(shell, prefix):
    shell.type(
        f"{prefix} bash -c 'trap \"x=heard\" INT; echo begun; until [[ $x ]]; do sleep 0.05; done; echo $x; read line; echo $line; exit 4'\n"
    )
    shell.expect("\nbegun")
    shell.type("\x03")
    shell.expect("heard\r\n")
    shell.type("more\n")
    shell.expect("\nmore\r\n")
    shell.expect("READY> ")
    assert shell.run("echo $?") == ("4\r\n", 0)


def test_ctrl_c_reaches_the_script_around_it_too(shell, tmp_path, prefix):
    (tmp_path / "around.sh").write_text(
        f"trap 'echo around heard; exit 9' INT\n{prefix} bash -c 'echo begun; exec sleep 60'\necho not reached\n"
    )
    shell.type("bash around.sh\n")
    shell.expect("\nbegun")
    shell.type("\x03")
    assert "not reached" not in shell.expect("around heard.*READY> ")


def test_ctrl_z_stops_the_job_and_fg_goes_on(shell, prefix):
    before = shell.settings()
    shell.type(f"{prefix} bash -c 'echo begun; read -s line; echo got $line; exit 5'\n")
    shell.expect("\nbegun")
    shell.type("\x1a")
    shell.expect("Stopped.*READY> ")
    assert shell.settings() == before
    assert "Stopped" in shell.run("jobs")[0]
    shell.type("fg\n")
    shell.expect("echo got")
    shell.type("words\n")
    shell.expect("\ngot words\r\n")
    shell.expect("READY> ")
    assert shell.run("echo $?") == ("5\r\n", 0)


def test_ctrl_z_stops_the_script_around_it_too(shell, tmp_path, prefix):
    (tmp_path / "around.sh").write_text(f"{prefix} bash -c 'echo begun; sleep 2'\necho after\n")
    shell.type("bash around.sh\n")
    shell.expect("\nbegun")
    shell.type("\x1a")
    shell.expect("Stopped.*READY> ")
    shell.type("fg\n")
    shell.expect("\nafter\r\n.*READY> ")


def test_goes_on_in_the_background_and_comes_back(shell, prefix):
    shell.type(
        f"{prefix} bash -c 'echo begun; while [[ ! -e go ]]; do sleep 0.05; done; echo went; read x; echo $x!'\n"
    )
    shell.expect("\nbegun")
    shell.type("\x1a")
    shell.expect("Stopped.*READY> ")
    shell.run("bg")
    shell.type("touch go\n")
    shell.expect("went\r\n")
    shell.type("fg\n")
    shell.expect("fg\r\n.*read x")
    shell.type("here\n")
    shell.expect("here!\r\n.*READY> ")


def test_the_last_words_get_one_line_end_each(shell, directory, tmp_path):
    """Here most of them are read after the end is known, which is when the terminal becomes the shell's again."""
    (tmp_path / "prints.py").write_text("import os\nos.write(1, b'x\\n' * 300)\nos._exit(0)")
    shown, _ = shell.run(f"{byte_by_byte(tmp_path)} {directory} python3 prints.py")
    assert shown == "x\r\n" * 300


def byte_by_byte(folder: Path) -> str:
    """The wrapper, reading so little at once that it is always behind."""
    program = "\n".join(
        [
            f"import sys; sys.path.insert(0, {str(ROOT)!r})",
            "from claude_loop.wrapper import main, streams",
            "streams.READ_BYTES = streams.GATHERED_BYTES = streams._FULL_READ_BYTES = 1",
            "main.main(sys.argv[1], sys.argv[2:])",
        ]
    )
    (folder / "byte_by_byte.py").write_text(program)
    return f"{shlex.quote(sys.executable)} -I -S byte_by_byte.py"


def test_what_is_printed_while_it_comes_to_the_front_gets_one_line_end_each(shell, directory, tmp_path):
    program = "import time\nfor n in range(2000):\n print(n, flush=True)\n time.sleep(0.001)"
    (tmp_path / "prints.py").write_text(program)
    shell.type(f"{wrapped(directory)} python3 prints.py\n")
    shell.expect("\n10\r\n")
    shell.type("\x1a")
    shell.expect("Stopped.*READY> ")
    shell.type("bg\n")
    shell.expect("READY> .*\r\n")
    shell.type("fg\n")
    assert "\r\r\n" not in shell.expect("\n1999\r+\n.*READY> ", 40)


def test_hears_of_a_new_size(shell, prefix):
    shell.type(f"{prefix} bash -c 'trap \"stty size; exit\" WINCH; echo begun; while :; do sleep 0.05; done'\n")
    shell.expect("\nbegun")
    shell.resize(31, 101)
    shell.expect("31 101\r\n.*READY> ")


def test_prompts_without_echo_and_the_end_of_input(shell, prefix):
    shell.type(f"{prefix} bash -c 'read -sp \"Pass\"word: word; echo; cat; echo $word | rev'\n")
    shell.expect("\nPassword:")
    shell.type("sesame\n")
    shell.expect("\r\n")
    shell.type("line\n\x04")
    assert "sesame" not in shell.expect("emases.*READY> ")


def test_programs_that_take_the_keys_raw(shell, prefix):
    program = (
        "import os, tty; tty.setraw(0); print('begun', end='', flush=True); print([os.read(0, 1) for _ in range(3)])"
    )
    shell.type(f'{prefix} python3 -c "{program}"; stty sane\n')
    shell.expect("\nbegun")
    shell.type("\x03\x1a\x04")
    shell.expect(r"b'\\x03', b'\\x1a', b'\\x04'.*READY> ")


def test_what_it_leaves_running_lives_on_and_still_prints(shell, tmp_path, prefix):
    shell.run(f"{prefix} bash -c '(until [[ -e go ]]; do sleep 0.05; done; echo later) & echo $! > pid'")
    shell.run(f"{prefix} bash -c 'sleep 60 > /dev/null 2>&1 < /dev/null & echo $! > quiet'")
    quiet = int((tmp_path / "quiet").read_text())
    shell.type("touch go\n")
    shell.expect("later\r\n")
    assert alive(quiet)
    os.kill(quiet, signal.SIGKILL)


def test_a_closed_window_hangs_up_the_command(directory, tmp_path, prefix):
    shell = Shell(tmp_path)
    shell.type(
        f"{prefix} bash -c 'trap \"echo hung up > heard; exit\" HUP; echo $$ > pid; while :; do sleep 0.05; done'\n"
    )
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    shell.close()
    until((tmp_path / "heard").exists)
    until(lambda: not alive(pid))


def test_the_command_is_hung_up_when_the_wrapper_is_killed(shell, directory, tmp_path):
    shell.type(f"{wrapped(directory)} bash -c 'echo $PPID $$ > pids; sleep 60'\n")
    monitor, pid = map(int, until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split()))
    wrapper = parent_of(monitor)
    os.kill(wrapper, signal.SIGKILL)
    until(lambda: not alive(pid))
    until(lambda: not alive(monitor))
    shell.expect("Killed.*READY> ")
    shell.type("stty sane\n")
    assert not (directory / "end.json").exists()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_terminal_is_as_before(shell, directory):
    before = shell.settings()
    for line in ("stty raw -echo", "bash -c 'stty raw; kill -9 $$'", "bash -c 'exit 1'"):
        shell.type(f"{wrapped(directory)} {line}\n")
        shell.expect("READY> ")
        assert shell.settings() == before


def test_everything_shown_is_kept(shell, directory):
    shell.run(f'{wrapped(directory)} bash -c \'echo "out"; echo err >&2; printf "\\033[1mbold"\'')
    assert kept(directory) == b"out\r\nerr\r\n\x1b[1mbold"


def test_the_end_is_written_down(shell, directory):
    shell.run(f"{wrapped(directory)} bash -c 'kill -TERM $$'")
    end = json.loads((directory / "end.json").read_text())
    assert (end["exit_code"], end["signal"]) == (143, 15)
    (spooled,) = (directory.parent.parent / "spool").glob("*.jsonl")
    event = json.loads(spooled.read_text())
    assert (event["type"], event["source"], event["data"]["success"]) == ("run.completed", "run", False)


def test_a_directory_that_is_gone_disturbs_nobody(shell, directory):
    line = wrapped(directory)
    directory.rmdir()
    assert shell.run(f"{line} bash -c 'echo fine; exit 3'") == ("fine\r\n", 3)


def test_nothing_of_others_is_in_memory(directory):
    names = "print(*sys.modules)"
    code = f"import sys; sys.argv = ['', sys.argv[1]]; sys.path.insert(0, sys.argv.pop()); import claude_loop.wrapper.main, claude_loop.wrapper.ending; {names}"
    root = str(Path(__file__).parents[3])
    done = subprocess.run(["python3", "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True)
    del directory
    assert "claude_loop.wrapper.main" in done.stdout
    for heavy in ("click", "pydantic", "asyncio", "aiohttp", "subprocess", "ssl"):
        assert heavy not in done.stdout.split()


def test_it_is_small(shell, directory, tmp_path):
    shell.type(f"{wrapped(directory)} bash -c 'echo $PPID > pid; read line'\n")
    monitor = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert proportional_kb(parent_of(monitor)) + proportional_kb(monitor) < 16_000
    shell.type("abc\n")
    shell.expect("abc.*READY> ")


def proportional_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))

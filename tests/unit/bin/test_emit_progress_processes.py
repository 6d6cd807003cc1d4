"""The bash emitter and processes: a file for each, no process of its own, one write, and waiting for the daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from claude_loop.intake.spool_names import FlushRequest, author
from tests.support import PATIENCE, until
from tests.unit.bin.bash_scripts import ALL_CALLS, EMITTER, MODES, bash, emitted, environment, records

BOTH = pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
EVERY = pytest.mark.parametrize("mode", MODES)


def pids(home: Path) -> list[int]:
    written_by = [author(file.stem) for file in sorted(home.glob("spool/*.jsonl"))]
    assert None not in written_by
    return [each.pid for each in written_by if each is not None]


@EVERY
def test_each_process_writes_a_file_of_its_own(home, mode):
    script = """source "$1"; emit_resumed A; emit_resumed B
    (emit_resumed C; (emit_resumed D); emit_resumed E)
    emit_resumed F | cat
    emit_resumed G & wait
    x=$(emit_resumed H)
    emit_resumed I
    bash -c 'source "$1"; emit_resumed J' x "$1"
    emit_resumed K
    echo $$"""
    ran = bash(script, mode=mode)
    assert ran.err == ""
    files = {}
    for record in records():
        files.setdefault(record["id"].rpartition(".")[0], []).append(record["prd_id"])
    assert sorted(files.values()) == [["A", "B", "I", "K"], ["C", "E"], ["D"], ["F"], ["G"], ["H"], ["J"]]
    assert len(set(pids(home))) == 7
    assert pids(home)[0] == int(ran.out)


@BOTH
def test_siblings_and_loops_of_subshells_share_nothing(home, mode):
    found = emitted("emit_resumed P; for i in {1..20}; do (emit_resumed P) & (emit_resumed P); done; wait", mode=mode)
    assert len(found) == 41
    assert len({record["id"] for record in found}) == 41
    assert len(pids(home)) == 41


@BOTH
def test_a_chain_of_parent_child_parent_has_rising_times(mode):
    found = emitted(
        "for i in {1..10}; do emit_iteration P $i; (emit_iteration P $i); x=$(emit_iteration P $i); done", mode=mode
    )
    in_time = sorted(found, key=lambda record: record["timestamp"])
    assert [record["data"]["iteration"] for record in in_time] == [i for i in range(1, 11) for _ in range(3)]
    assert len({record["timestamp"] for record in found}) == 30


@BOTH
def test_exec_goes_on_or_begins_anew_but_numbers_no_two_alike(home, mode):
    emitted(
        'set -a; source "$1"; emit_resumed A; exec bash -c \'source "$1"; emit_resumed B; emit_resumed C\' x "$1"',
        mode=mode,
    )
    found = records()
    assert sorted(record["prd_id"] for record in found) == ["A", "B", "C"]
    assert len({record["id"] for record in found}) == 3
    assert len(set(pids(home))) == 1


@pytest.mark.parametrize("marked", ["set +a", ":"])
def test_exec_without_sourcing_again_loses_nothing(marked):
    """The same process with the same options, which has inherited the functions and a part of the variables or all."""
    emitted(f'set -a; source "$1"; {marked}; emit_resumed A; exec bash -c "emit_resumed B; emit_resumed C"')
    assert [record["prd_id"] for record in records()] == ["A", "B", "C"]
    assert len({record["id"] for record in records()}) == 3


def test_another_home_gets_another_file(home):
    emitted(
        "emit_resumed A; CLAUDE_LOOP_HOME=$CLAUDE_LOOP_HOME-2; emit_resumed B; CLAUDE_LOOP_HOME=${CLAUDE_LOOP_HOME%-2}; emit_resumed C"
    )
    assert [record["prd_id"] for record in records()] == ["A", "C"]
    assert [record["prd_id"] for record in records(Path(f"{home}-2"))] == ["B"]


# ---- what the kernel sees


@pytest.mark.requires("strace", "linux")
def test_no_call_starts_a_process(home):
    (home / "flush").mkdir(parents=True)
    (home / "spool").mkdir()
    # The background job plays the daemon, and removes the marker after a while.
    script = f"""source "$1"; stop=$CLAUDE_LOOP_HOME/stop
    (while [[ ! -e $stop ]]; do sleep 0.02; rm -f "$CLAUDE_LOOP_HOME"/flush/*; done) &
    read -r line </dev/null
    {ALL_CALLS}
    emit_flush 20 || echo not in time
    : >"$stop"; wait"""
    log = home.parent / "trace"
    ran = bash(script, prefix=("strace", "-f", "-y", "-e", "trace=clone,clone3,fork,vfork,execve,read", "-o", str(log)))
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    shell = log.read_text().split(maxsplit=1)[0]
    ours = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines() if line.split(maxsplit=1)[0] == shell]
    mark = max(number for number, line in enumerate(ours) if line.startswith("read(") and "</dev/null" in line)
    assert [line for line in ours[mark:] if re.match(r"(clone3?|v?fork|execve)\(", line)] == []
    assert [line for line in ours[:mark] if line.startswith("clone")] != []
    assert len(records()) == 13


@pytest.mark.requires("strace", "linux")
@pytest.mark.parametrize(("length", "writes"), [(10, [1]), (3_800, [1]), (16_000, [2, 3])])
def test_a_record_is_one_write_up_to_4096_bytes(home, length, writes):
    """Longer ones go through stdio's buffer: its 4096 bytes, whole blocks, the rest."""
    (home / "spool").mkdir(parents=True)
    log = home.parent / "trace"
    script = f'source "$1"; printf -v text "%*s" {length} ""; emit_error P S "$text"; (emit_error P S "$text")'
    ran = bash(script, prefix=("strace", "-f", "-y", "-e", "trace=write", "-o", str(log)))
    assert (ran.status, ran.err) == (0, "")
    into_the_spool = re.findall(r"spool/([^/]*\.jsonl)>", log.read_text())
    assert len(records()) == len(set(into_the_spool)) == 2
    assert {into_the_spool.count(name) for name in into_the_spool} <= set(writes)


@pytest.mark.requires("strace", "linux")
def test_each_record_is_appended_to_a_file_opened_for_it(home):
    (home / "spool").mkdir(parents=True)
    log = home.parent / "trace"
    ran = bash('source "$1"; emit_resumed P; emit_resumed P', prefix=("strace", "-e", "trace=openat", "-o", str(log)))
    assert ran.status == 0
    opened = [line for line in log.read_text().splitlines() if ".jsonl" in line]
    assert len(opened) == 3  # the first makes the file
    assert all("O_WRONLY|O_CREAT|O_APPEND" in line for line in opened)


# ---- emit_flush


def flushing(script: str, mode: str = "bash-5") -> subprocess.Popen[bytes]:
    command = ["bash", "-c", f'source "$1"; {script}', "script", str(EMITTER)]
    return subprocess.Popen(command, env=environment(mode), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def marker(home: Path) -> Path:
    return until(lambda: next(iter(home.glob("flush/*")), None), what="a flush marker")


@EVERY
def test_flush_waits_until_the_daemon_has_removed_the_marker(home, mode):
    with flushing("set -euo pipefail; emit_resumed P; emit_resumed P; emit_flush 20; echo flushed", mode) as process:
        found = marker(home)
        request = FlushRequest.parse(found.name)
        assert request is not None
        assert (home / "spool" / f"{request.stem}.jsonl").exists()
        assert request.line == 2
        assert process.poll() is None
        found.unlink()
        out, err = process.communicate(timeout=PATIENCE)
    assert (out, err, process.returncode) == (b"flushed\n", b"", 0)


def test_flush_notices_within_a_few_milliseconds(home):
    with flushing("emit_resumed P; emit_flush 20") as process:
        found = marker(home)
        time.sleep(0.2)  # long enough for its pauses to have become as long as they get
        found.unlink()
        started = time.monotonic()
        process.wait(PATIENCE)
        assert time.monotonic() - started < 10


@EVERY
def test_flush_gives_up_in_time_and_takes_its_marker_back(home, mode):
    started = time.monotonic()
    ran = bash('source "$1"; emit_resumed P; emit_flush 0.3; echo $?', mode=mode)
    assert 0.3 <= time.monotonic() - started < 10
    assert (ran.out, ran.err) == ("1\n", "")
    assert list(home.glob("flush/*")) == []


@pytest.mark.parametrize(
    ("argument", "milliseconds"),
    [("", 5000), ("5", 5000), ("0", 0), ("0.5", 500), (".25", 250), ("0,5", 500), ("2.", 2000), ("08", 8000), ("1.23456", 1234),
     ("x", 5000), ("-1", 5000), ("1.2.3", 5000), (".", 5000), ("a[$(id)]", 5000), ("123456789012", 56789012000)],
)  # fmt: skip
def test_how_long_flush_waits(argument, milliseconds):
    script = 'source "$1"; emit_resumed P; __cl_ms=; __claude_loop_ask "$2"; echo "$__cl_ms"'
    assert bash(script, argument).out == f"{milliseconds}\n"


@EVERY
def test_flush_with_nothing_to_wait_for(home, mode):
    ran = bash(
        'source "$1"; emit_flush; echo $?; emit_resumed P; (emit_flush; echo $?); emit_flush 0 & wait $!; echo $?',
        mode=mode,
    )
    assert (ran.out, ran.err) == ("0\n0\n0\n", "")
    assert list(home.glob("flush/*")) == []


def test_flush_fails_when_something_could_not_be_written(home):
    ran = bash(
        'source "$1"; emit_resumed P; mv "$2" "$2-gone"; : >"$2"; emit_resumed P; emit_flush 0; echo $?; '
        'rm "$2"; mv "$2-gone" "$2"; emit_resumed P; emit_flush 0; echo $?',
        str(home),
    )
    assert (ran.out, ran.err) == ("1\n1\n", "")
    assert len(records()) == 2


def test_flush_asks_the_home_that_was_written_to(home):
    ran = bash('source "$1"; emit_resumed P; CLAUDE_LOOP_HOME=/nowhere; emit_flush 0.01; echo $?')
    assert ran.out == "1\n"
    assert (home / "flush").is_dir()


@pytest.mark.requires("linux")
@EVERY
def test_a_trap_that_fires_while_flush_waits_can_speak(home, mode):
    script = "trap 'echo caught >&2; exit 3' TERM; emit_resumed P; emit_flush 20"
    with flushing(script, mode) as process:
        marker(home)
        until(lambda: os.readlink(f"/proc/{process.pid}/fd/2").startswith("pipe"), what="the wait itself")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert (err, process.returncode) == (b"caught\n", 3)


@BOTH
@pytest.mark.parametrize(
    "state",
    [
        "set -euo pipefail",
        "set -o posix",
        "IFS=0123456789.",
        "set -fC",
        "exec <&- >&- 2>&-",
        "shopt -s nocasematch",
        "ulimit -n 50",
    ],
)
def test_flush_in_states_of_a_shell(home, mode, state):
    with flushing(f"exec 9>&1; {state}; emit_resumed P; emit_flush 20 && echo flushed >&9", mode) as process:
        marker(home).unlink()
        out, err = process.communicate(timeout=PATIENCE)
    assert (out, err) == (b"flushed\n", b"")


# ---- death


def cut_torn_line(file: Path) -> bool:
    content = file.read_bytes()
    if content.endswith(b"\n"):
        return False
    file.write_bytes(content[: content.rindex(b"\n\n") + 1])
    return True


def test_an_emitter_killed_at_any_moment_leaves_whole_records(home):
    """SIGKILL between two commands of ours; within a write, at the end of a page, it leaves a torn last line, which the
    daemon knows: twelve kills do not meet that twice."""
    for delay in range(12):
        command = ["bash", "-c", 'source "$1"; while :; do emit_error P S "$$ é \\"x\\""; done', "script", str(EMITTER)]
        with subprocess.Popen(command, env=environment()) as process:
            until(lambda: any(file.stat().st_size for file in home.glob(f"spool/*-{process.pid}-*")))
            time.sleep(delay / 500)
            process.kill()
    assert sum(map(cut_torn_line, home.glob("spool/*.jsonl"))) <= 1
    found = records()
    assert len(pids(home)) == 12
    assert all(record["data"]["error"].endswith(' é "x"') for record in found)

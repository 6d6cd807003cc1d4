"""What `claude-loop run` costs the command that it wraps.

    python bench/run_cost.py [--rounds 5] [--work 600] [--megabytes 100]

Method. Everything is done twice, bare and wrapped, by turns within each round, so that a slower moment of the machine
meets both alike: trust the differences, which are of medians, and the ratios, each the median of those of the rounds. The
terminal is a pseudo-terminal that this
process reads and types into. A busy command computes for some seconds and prints a line every ten milliseconds or so; its
time is taken by itself, from its first instruction to its last, and the start and the end of the wrapper are a row of
their own; on a busy machine its processor time says more than the clock. A
keystroke's echo is the time from writing one byte into the terminal until one comes back, while `cat` runs.
Output is a file of lines that `cat` prints, into a pipe and into the terminal. A daemon reads along where a row says so.

Limit. A command in a wrapped terminal prints into a terminal of its own, and from there into the one outside: the kernel
looks at every character twice where it did once, some 4 KB at a time, on two threads of one core. util-linux's script does
just that, in C, and keeps nothing; its row says what that comes to. What ours takes beyond it is Python's three calls
for each of those pieces (read, keep, write). Where a bare terminal passes 50 MB/s itself, a wrapped one cannot.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from serving import ROOT, environment, machine, percentile, row, serving

BUSY = """
import os, sys, time
def spent_by(pid):
    return int(open(f"/proc/{pid}/schedstat").read().split()[0]) / 1e9
def above(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
beside = [os.getppid()]  # ours has a process between, which waits
beside += [above(beside[0])] if sys.argv[3] == "ours" else []
before = sum(map(spent_by, beside))
begun, n, spent = time.perf_counter(), 0, time.process_time()
for lines in range(int(sys.argv[1])):
    for _ in range(100_000):
        n += 1
    print(f"line {lines} of what a loop prints while it works, of a usual length for such a line")
    sys.stdout.flush()
open(sys.argv[2], "w").write(
    f"{time.perf_counter() - begun} {time.process_time() - spent} {sum(map(spent_by, beside)) - before}")
"""
WRAPPER = [str(ROOT / ".venv" / "bin" / "python"), "-I", "-m", "claude_loop", "run", "--"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=int, default=600, help="lines that the busy command prints")
    parser.add_argument("--megabytes", type=int, default=100)
    arguments = parser.parse_args()
    print(f"run_cost: {machine()}\n")
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as temporary:
        folder = Path(temporary)
        absent = environment(folder / "home") | {"CLAUDE_LOOP_AUTOSTART": "0"}
        (folder / "lines").write_bytes(
            b"a line of what a loop prints while it works, of a usual length for such\n"
            * (arguments.megabytes * 1_000_000 // 73)
        )
        start_and_end(absent, arguments.rounds)
        busy(absent, folder, arguments.rounds, arguments.work)
        keystrokes(absent, arguments.rounds)
        output(absent, folder, arguments.rounds, "no daemon")
        with serving(folder / "served") as served:
            del served
            output(environment(folder / "served"), folder, max(2, arguments.rounds // 2), "a daemon reads along")


def start_and_end(environ: dict[str, str], rounds: int) -> None:
    times = by_turns(rounds * 2, lambda prefix: seconds_of([*prefix, "true"], environ))
    row("start and end, once", f"{1000 * (middle(times[True]) - middle(times[False])):.0f} ms")


def busy(environ: dict[str, str], folder: Path, rounds: int, work: int) -> None:
    shares, shares_in_c = [], []
    said, program = folder / "busy", folder / "busy.py"
    program.write_text(BUSY)

    def run(line: list[str]) -> tuple[float, float]:
        in_terminal(line, environ)
        seconds, spent, beside = map(float, said.read_text().split())
        return seconds, 100 * beside / spent

    def once(prefix: list[str]) -> float:
        line = ["python3", str(program), str(work), str(said)]
        seconds, share = run([*prefix, *line, "ours"])
        if prefix:
            shares.append(share)
            if in_c := shutil.which("script"):  # the same by a wrapper in C
                inner = shlex.join(["exec", *line, "script"])
                shares_in_c.append(run([in_c, "-qec", inner, str(folder / "typescript")])[1])
        return seconds

    times = by_turns(rounds, once)
    share = 100 * (ratio_of_pairs(times) - 1)
    name = f"busy command of {middle(times[False]):.1f} s, more wall time"
    row(name, f"{share:+.2f} %", "≤ 1 %", reached=share <= 1)
    least = 100 * (min(times[True]) / min(times[False]) - 1)
    row("  of the quickest of each", f"{least:+.2f} %")
    share = middle(shares)
    row("  processor time of the wrapper, of the command's", f"{share:.2f} %", "≤ 1 %", reached=share <= 1)
    if shares_in_c:
        row("  of util-linux's script, likewise", f"{middle(shares_in_c):.2f} %")


def keystrokes(environ: dict[str, str], rounds: int) -> None:
    echoes: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for wrapped in (False, True):
            echoes[wrapped] += echo_times((WRAPPER if wrapped else []) + ["cat"], environ, 100)
    added = [percentile(echoes[True], share) - percentile(echoes[False], share) for share in (0.5, 0.99)]
    row("keystroke's echo, added at p50", f"{added[0] * 1000:.2f} ms", "≤ 5 ms", reached=added[0] <= 0.005)
    row("  at p99", f"{added[1] * 1000:.2f} ms", "≤ 5 ms", reached=added[1] <= 0.005)


def output(environ: dict[str, str], folder: Path, rounds: int, daemon: str) -> None:
    size = (folder / "lines").stat().st_size
    command = ["cat", str(folder / "lines")]
    piped = by_turns(rounds, lambda prefix: seconds_of(prefix + command, environ, read=size))
    shown = by_turns(rounds, lambda prefix: in_terminal(prefix + command, environ))
    for where, times in (("a pipe", piped), ("a terminal", shown)):
        rate, bare = (size / 1e6 / middle(times[wrapped]) for wrapped in (True, False))
        row(f"{size / 1e6:.0f} MB into {where}, {daemon}", f"{rate:.0f} MB/s", "≥ 50 MB/s", reached=rate >= 50)
        row("  bare", f"{bare:.0f} MB/s ({ratio_of_pairs(times):.2f} x as long)")
    if in_c := shutil.which("script"):  # the same way through two terminals: what a wrapper in C comes to
        line = [in_c, "-qec", shlex.join(command), os.devnull]
        times = by_turns(rounds, lambda prefix: in_terminal(line if prefix else command, environ))
        row(
            "  util-linux's script",
            f"{size / 1e6 / middle(times[True]):.0f} MB/s ({ratio_of_pairs(times):.2f} x as long)",
        )


def by_turns(rounds: int, once: Callable[[list[str]], float]) -> dict[bool, list[float]]:
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for wrapped in (False, True):
            times[wrapped].append(once(WRAPPER if wrapped else []))
    return times


def ratio_of_pairs(times: dict[bool, list[float]]) -> float:
    """How much longer wrapped takes than bare right before it."""
    return middle([wrapped / bare for bare, wrapped in zip(times[False], times[True], strict=True)])


def middle(values: list[float]) -> float:
    return percentile(values, 0.5)


def seconds_of(command: list[str], environ: dict[str, str], read: int = 0) -> float:
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    got = 0
    while data := os.read(process.stdout.fileno(), 1024 * 1024):
        got += len(data)
    if process.wait() != 0 or got != read:
        sys.exit(f"{command}: {got} bytes, status {process.returncode}")
    return time.perf_counter() - begun


def in_terminal(command: list[str], environ: dict[str, str]) -> float:
    """Seconds until the command has ended and all it printed was read."""
    begun = time.perf_counter()
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environ)
    while read_from(master):
        pass
    _, status = os.waitpid(pid, 0)
    os.close(master)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return time.perf_counter() - begun


def read_from(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


def echo_times(command: list[str], environ: dict[str, str], count: int) -> list[float]:
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environ)
    os.write(master, b"ready\n")
    seen = b""
    while seen.count(b"ready") < 2:  # its echo, and what `cat` made of it
        seen += read_from(master)
    times = []
    for _ in range(count):
        time.sleep(0.005)
        while select.select([master], [], [], 0)[0]:
            read_from(master)
        begun = time.perf_counter()
        os.write(master, b"k")
        read_from(master)
        times.append(time.perf_counter() - begun)
    os.write(master, b"\n\x04")
    while read_from(master):
        pass
    os.waitpid(pid, 0)
    os.close(master)
    return times


if __name__ == "__main__":
    main()

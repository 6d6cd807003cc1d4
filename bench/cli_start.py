"""How long the command line takes to start: from the call to the end of the process, and how much CPU that is.

Method: each command is run by itself, one after the other, with its output thrown away and the daemon down; the
bytecode is compiled by a run before. Wall time is taken around the process; CPU time (user and system) is what the
kernel accounts to it, which tells the cost also on a machine that others keep busy. Beside it, for the machine's sake,
the same of an interpreter that does nothing, and of one that only imports click. The targets are wall times of the
median on a quiet machine: `--help` 200 ms, `emit` 150 ms.

    python bench/cli_start.py [TIMES]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLI = ["-m", "claude_loop"]
COMMANDS: list[tuple[str, list[str], float | None]] = [
    ("python -c pass", ["-c", "pass"], None),
    ("python -c 'import click'", ["-c", "import click"], None),
    ("claude-loop --help", [*CLI, "--help"], 200),
    ("claude-loop emit a.b k=v", [*CLI, "emit", "a.b", "k=v"], 150),
    ("claude-loop status (daemon down)", [*CLI, "status"], None),
    ("claude-loop tail --help", [*CLI, "tail", "--help"], None),
]


def once(line: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU time of one run, in milliseconds."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *line], env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = 0
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    missed = "missed, on a busy machine" if load > cores else "missed"
    print(f"{times} runs each, in ms; load average {load:.1f} on {cores} cores")
    print(f"{'':34} {'wall: best':>10} {'median':>7} {'p95':>7} {'cpu: best':>10} {'median':>7}  target")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CLAUDE_LOOP_HOME": f"{home}/state"}
        for name, line, target in COMMANDS:
            once(line, environment)
            runs = [once(line, environment) for _ in range(times)]
            wall, cpu = (sorted(column) for column in zip(*runs, strict=True))
            median = statistics.median(wall)
            p95 = wall[min(times - 1, round(0.95 * times))]
            verdict = "" if target is None else f"{target:4.0f} {'reached' if median <= target else missed}"
            wall_told = f"{wall[0]:10.0f} {median:7.0f} {p95:7.0f}"
            print(f"{name:34} {wall_told} {cpu[0]:10.0f} {statistics.median(cpu):7.0f}  {verdict}")


if __name__ == "__main__":
    main()

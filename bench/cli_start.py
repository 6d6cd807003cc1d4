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

from serving import ROOT, machine, percentile, row

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
    print(f"cli_start: {machine()}\n")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CLAUDE_LOOP_HOME": f"{home}/state"}
        for name, line, target in COMMANDS:
            once(line, environment)
            runs = [once(line, environment) for _ in range(times)]
            wall, cpu = (sorted(column) for column in zip(*runs, strict=True))
            median = statistics.median(wall)
            told = "" if target is None else f"≤ {target:.0f} ms"
            row(f"{name}, p50", f"{median:.0f} ms", told, reached=None if target is None else median <= target)
            row("  best, p95", f"{wall[0]:.0f}, {percentile(wall, 0.95):.0f} ms")
            row("  of the processor", f"{statistics.median(cpu):.0f} ms")


if __name__ == "__main__":
    main()

"""A daemon of its own for a benchmark, in a temporary home on a free port."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Served:
    home: Path
    url: str
    port: int
    pid: int
    ready_seconds: float

    def rss_mb(self) -> float:
        """Resident memory of the daemon."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError(self.pid)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLAUDE_LOOP_")}
    return kept | {"CLAUDE_LOOP_HOME": str(home), "PYTHONPATH": str(ROOT), "CLAUDE_LOOP_PROJECT": "bench"}


@contextmanager
def serving(home: Path | None = None) -> Iterator[Served]:
    """A running daemon; ``ready_seconds`` is from the start of the process to the first answer of ``/health``."""
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as temporary:
        root = home or Path(temporary) / "home"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        began = time.monotonic()
        command = [sys.executable, "-m", "claude_loop", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment(root), cwd=ROOT, stderr=subprocess.PIPE)
        try:
            _await_health(port, process)
            ready = time.monotonic() - began
            yield Served(root, f"http://127.0.0.1:{port}", port, process.pid, ready)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _await_health(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        if process.poll() is not None:
            raise RuntimeError(process.stderr.read().decode() if process.stderr else "the daemon ended")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if b" 200 " in connection.recv(100):
                    return
        except OSError:
            time.sleep(0.002)


def machine() -> str:
    """One line for the head of a table."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} × {model}, Python {platform.python_version()}, load {load:.1f} at the start"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# Where `bin/bench` collects the rows of all benchmarks: a file of JSON lines.
RECORD = "BENCH_RECORD"


def row(name: str, figure: str, target: str = "", *, reached: bool | None = None) -> None:
    """A line of the table. A name that begins with two blanks belongs to the row above it."""
    mark = "" if reached is None else ("reached" if reached else "MISSED")
    print(f"{name:<58} {figure:>24}  {target:<26} {mark}", flush=True)
    record = os.environ.get(RECORD)
    if record:
        line = {"bench": Path(sys.argv[0]).stem, "name": name, "figure": figure, "target": target, "reached": reached}
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

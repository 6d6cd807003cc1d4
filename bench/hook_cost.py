"""What a call of the agents' hook costs, beside a bash that does nothing and a hook in Python.

    python bench/hook_cost.py [--rounds 60]

Method. Each call is a process, started by this one with a socket as stdin, as Node and Bun do it; the clock runs from
before the start until it has been waited for. The payload is a PostToolUse of Bash whose output fills it up to the size
of the row. The hook writes to a temporary spool that exists, every record for real. `bash` is the same interpreter
with an empty script; the Python hook does the same through this project's own Python emitter, which is of the standard
library alone (finds project and context, makes the private directory, names the file, appends the record). The bare
one does none of that: it parses, takes the directory's name, appends, and is started with `-S -E`, which no package
survives. All take turns within each round, so that a slower moment of the machine meets all alike: trust the ratios,
which are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import ROOT, machine, percentile, row

SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000, "1 MB": 990_000}
PYTHON_HOOK = """
import json, sys
from claude_loop.spool_writer import SpoolWriter
SpoolWriter(source="claude").emit("hook.claude", json.load(sys.stdin))
"""
BARE_PYTHON_HOOK = """
import json, os, sys, time
payload = json.load(sys.stdin)
now = time.time()
stem = f"{int(now * 1e6)}-{os.getpid()}-{int.from_bytes(os.urandom(4), 'big')}"
record = {"id": f"{stem}.1", "type": "hook.claude", "project": os.path.basename(os.getcwd()), "source": "claude",
          "timestamp": now, "data": payload}
with open(f"{os.environ['CLAUDE_LOOP_HOME']}/spool/{stem}.jsonl", "a") as file:
    file.write("\\n" + json.dumps(record) + "\\n")
"""


def payload(size: int) -> bytes:
    """A hook's JSON of about ``size`` bytes."""
    event = {
        "session_id": "5b1f6a2e-0c1d-4e5f-9a77-2f1f0a9d3c10",
        "cwd": "/home/u/app",
        "hook_event_name": "PostToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": "pytest -q"},
        "tool_response": {"stdout": "", "stderr": "", "interrupted": False},
        "tool_use_id": "toolu_01A",
    }
    line = 'tests/test_cart.py::test_total "été" PASSED\n'
    event["tool_response"]["stdout"] = line * max(0, (size - len(json.dumps(event))) // len(json.dumps(line)))
    return json.dumps(event, ensure_ascii=False).encode()


def call(command: list[str], data: bytes, environ: dict[str, str]) -> float:
    """Microseconds of one call."""
    ours, theirs = socket.socketpair()
    started = time.perf_counter()
    with ours, subprocess.Popen(command, stdin=theirs, env=environ) as process:
        theirs.close()
        if data:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)
        process.wait()
        taken = (time.perf_counter() - started) * 1e6
    if process.returncode:
        sys.exit(f"{command[0]} ended with status {process.returncode}")
    return taken


def measure(rounds: int) -> dict[str, list[float]]:
    """name -> microseconds of each call"""
    costs: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as temporary:
        spool = Path(temporary) / "spool"
        spool.mkdir(mode=0o700)
        empty = Path(temporary) / "empty"
        empty.write_text("#!/bin/bash -p\n")
        empty.chmod(0o755)
        slow, bare = Path(temporary) / "hook.py", Path(temporary) / "bare.py"
        slow.write_text(PYTHON_HOOK)
        bare.write_text(BARE_PYTHON_HOOK)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CLAUDE_LOOP_")}
        environ = kept | {"CLAUDE_LOOP_HOME": temporary, "PYTHONPATH": str(ROOT)}
        hook = [str(ROOT / "bin" / "claude-loop-hook"), "claude"]
        data = {name: payload(size) for name, size in SIZES.items()}
        calls = 0
        for _ in range(rounds):
            costs.setdefault("bash", []).append(call([str(empty)], b"", environ))
            for name, body in data.items():
                costs.setdefault(name, []).append(call(hook, body, environ))
            for name, arguments in (("python", [str(slow)]), ("bare python", ["-S", "-E", str(bare)])):
                command = [sys.executable, *arguments]
                costs.setdefault(name, []).append(call(command, data["10 KB"], environ))
            calls += len(data) + 2
        written = [file for file in spool.iterdir() if json.loads(file.read_bytes())["data"]["tool_use_id"]]
        if len(written) != calls:
            sys.exit(f"{calls} calls, but {len(written)} records")
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    print(f"hook_cost: {machine()}\n")
    costs = measure(arguments.rounds)
    middle = {name: percentile(values, 0.5) / 1000 for name, values in costs.items()}
    row("bash that does nothing, p50", f"{middle['bash']:.2f} ms")
    for name in SIZES:
        quick = name in {"1 KB", "10 KB"}
        text = f"{middle[name]:.2f} ms"
        if quick:
            row(f"hook, payload of {name}, p50", text, "≤ 5 ms", reached=middle[name] <= 5)
        else:
            row(f"hook, payload of {name}, p50", text)
        row("  above bash", f"{middle[name] - middle['bash']:.2f} ms")
        row("  p99", f"{percentile(costs[name], 0.99) / 1000:.2f} ms")
    ratio = middle["python"] / middle["10 KB"]
    row("Python hook, 10 KB, p50", f"{middle['python']:.1f} ms")
    row("  the hook is cheaper by", f"{ratio:.1f} ×", "≥ 15 ×", reached=ratio >= 15)
    row("bare Python hook with -S -E, 10 KB, p50", f"{middle['bare python']:.1f} ms")
    row("  the hook is cheaper by", f"{middle['bare python'] / middle['10 KB']:.1f} ×")


if __name__ == "__main__":
    main()

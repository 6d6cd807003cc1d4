"""From a bash call to a line of `tail --json`, at a steady rate.

    python bench/latency.py [--rate 200] [--seconds 20]

Method. One bash process sources `emit_progress.sh` and makes the calls at fixed times, late or not: each call's data
holds the time it was due (EPOCHREALTIME), so that a stall counts against every call it delays (no coordinated
omission). `claude-loop tail --json` runs as its own process on the same home; this script stamps each of its lines on
arrival. The latency is arrival minus due time; it contains the call, the write, the wake-up of the daemon, the commit
with fsync, the read model, the stream and tail itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from serving import ROOT, environment, machine, percentile, row, serving

LOOP = r"""
source "$1/bin/emit_progress.sh"
interval=$2 count=$3
due=${EPOCHREALTIME//[!0-9]/}
for ((i = 0; i < count; i++)); do
  due=$((due + interval))
  now=${EPOCHREALTIME//[!0-9]/}
  if ((due > now)); then
    printf -v pause '%d.%06d' $(((due - now) / 1000000)) $(((due - now) % 1000000))
    read -r -t "$pause" _ <&3
  fi
  emit_event bench.tick prd=BENCH n:=$i due:=$due
done
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=20)
    arguments = parser.parse_args()
    count = arguments.rate * arguments.seconds
    print(f"latency: {machine()}\n")
    with serving() as served:
        tail = subprocess.Popen(
            [sys.executable, "-m", "claude_loop", "tail", "--json", "-n", "0", "--type", "bench.tick"],
            env=environment(served.home),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(1.0)  # tail is reading by then; the first second of ticks is not counted either
        loop = f"exec 3<> <(:); {LOOP}"
        bash = subprocess.Popen(
            ["bash", "-c", loop, "bench", str(ROOT), str(1_000_000 // arguments.rate), str(count)],
            env=environment(served.home),
        )
        assert tail.stdout is not None
        latencies = []
        for seen, line in enumerate(tail.stdout):
            arrived = time.time_ns() // 1000
            data = json.loads(line)["data"]
            assert data["n"] == seen, "out of order"
            if data["n"] >= arguments.rate:
                latencies.append((arrived - data["due"]) / 1000)
            if seen == count - 1:
                break
        bash.wait()
        tail.terminate()
        tail.wait()
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    row(f"bash call to `tail --json` at {arguments.rate}/s, p50", f"{p50:.1f} ms", "≤ 15 ms", reached=p50 <= 15)
    row("  p99", f"{p99:.1f} ms", "≤ 50 ms", reached=p99 <= 50)
    row("  worst", f"{max(latencies):.1f} ms")


if __name__ == "__main__":
    main()

"""What a call of the bash emitter costs, beside the usual ways to report from a script.

    python bench/emit_cost.py [--rounds 40] [--locale C.UTF-8]

Method. One bash process reads EPOCHREALTIME before and after each single call, so that a table row is a distribution
of calls and the reading itself (about 1 us) is counted in; nothing is subtracted, curl has the same on top. The emitter
writes to a directory that exists, as it does once the daemon has run, in $TMPDIR or /tmp, mostly on a disk; every record
is written for real. curl and `python3 -c` (urllib) post a record of the
same size to a server in this process on 127.0.0.1, which reads the body and answers 200; both are started by the same
bash and timed in the same way. All of them take turns within each round, so that a slower moment of the machine meets
all alike: trust the ratios, which are of medians. `no-op` is a function that does nothing, called with the same
arguments: for the megabyte it is what bash itself needs to hand it over.

Limit. emit_event stays above 150 us and short of 60 x, and in slow hours of the machine emit_error is above too.
Counted with callgrind, in thousands of instructions of bash 5.2, and the loop around it (40) with it,
emit_story_started takes 350: 20 are the call, 50 the function in front with its redirection and what it hands over, 65
go to compare what decides on the file, 30 to ids, 10 to the file's being there, 120 to the record: 30 of them write, 45
hand its 220 characters over, 45 put it together. A function with nothing but one `printf` of such a record takes 120 in
the same loop: no emitter in bash is below that. emit_test_run takes 630. emit_error takes 940: 80 for bash to quote the
text, 140 to go to the C locale and back, where 16 quotes cost 55 to escape instead of 290, 220 for what else is
different in JSON, the rest to a longer text in each step: bash takes 40 to 200 instructions for each character that it
expands. emit_event takes 1,480: 280 until its arguments are quoted, 470 to find and escape what has to be, some 100 for
each pair. Only the instructions can be had again: what a call takes in time hangs on the machine's caches too, and some
20 us of each are system calls.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from serving import ROOT, machine, percentile, row

LOOP = r"""
source "$1/bin/emit_progress.sh"
url=$2 rounds=$3
printf -v ugly 'Traceback: File "C:\\src\\cart.py"\n\tTypeError: \033[31m%s\033[0m – %s\n' 'total() takes "1"' 'été € 😀'
while ((${#ugly} < 200)); do ugly+='at "cart.py" line 3; '; done
ugly=${ugly:0:200}
printf -v megabyte '%*s' 1048576 ''
body='{"type":"error.occurred","prd_id":"PRD-001","story_id":"US-001","data":{"error":"it broke"}}'
post='import sys,urllib.request as u; u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})).read()'
noop() { :; }
timed() { # NAME COMMAND ARG...
  local name=$1 from to
  shift
  from=$EPOCHREALTIME
  "$@"
  to=$EPOCHREALTIME
  printf '%s %d\n' "$name" $((${to//[!0-9]/} - ${from//[!0-9]/}))
}
emit_error PRD-001 US-001 warm
for ((round = 0; round < rounds; round++)); do
  for ((i = 0; i < 25; i++)); do
    timed noop noop PRD-001 US-001
    timed started emit_story_started PRD-001 US-001
    timed error emit_error PRD-001 US-001 "$ugly"
    timed test emit_test_run PRD-001 US-001 10 2 test_total test_coupon
    timed event emit_event deploy.done prd=PRD-001 "note=$ugly" count:=3
  done
  timed noop_big noop PRD-001 US-001 "$megabyte"
  timed error_big emit_error PRD-001 US-001 "$megabyte"
  timed curl curl -s -o /dev/null -X POST -H 'Content-Type: application/json' -d "$body" "$url"
  timed curl curl -s -o /dev/null -X POST -H 'Content-Type: application/json' -d "$body" "$url"
  ((round % 4)) || timed python python3 -c "$post" "$url" "$body"
done
"""


class Sink(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--locale", default="C.UTF-8")
    arguments = parser.parse_args()
    print(f"emit_cost: {machine()}\n")
    costs = measure(arguments.rounds, arguments.locale)
    middle = {name: percentile(values, 0.5) for name, values in costs.items()}
    for name, title in [
        ("started", "emit_story_started"),
        ("error", "emit_error, 200 characters, 30 of them to escape"),
        ("test", "emit_test_run with two names"),
        ("event", "emit_event with text and JSON"),
    ]:
        ratio = middle["curl"] / middle[name]
        row(f"{title}, p50", f"{middle[name]:.0f} µs", "≤ 150 µs", reached=middle[name] <= 150)
        row("  p99", f"{percentile(costs[name], 0.99):.0f} µs")
        row("  cheaper than curl", f"{ratio:.0f} ×", "≥ 60 ×", reached=ratio >= 60)
    big, bare = middle["error_big"] / 1000, middle["noop_big"] / 1000
    row("emit_error, 1 MB, p50", f"{big:.1f} ms", "≤ 50 ms", reached=big <= 50)
    row("  of which bash needs for any call", f"{bare:.1f} ms")
    row("a function that does nothing", f"{middle['noop']:.0f} µs")
    row("curl, one POST, p50", f"{middle['curl'] / 1000:.1f} ms")
    row("python3 -c, one POST, p50", f"{middle['python'] / 1000:.1f} ms")


def measure(rounds: int, locale: str) -> dict[str, list[float]]:
    """name -> microseconds of each call"""
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as temporary:
        (Path(temporary) / "spool").mkdir(mode=0o700)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLAUDE_LOOP_", "LC_"))}
        done = subprocess.run(
            ["bash", "-c", LOOP, "bench", str(ROOT), f"http://127.0.0.1:{server.server_port}/", str(rounds)],
            env=kept | {"CLAUDE_LOOP_HOME": temporary, "LC_ALL": locale, "no_proxy": "*"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        server.shutdown()
        wanted = sum(
            line.split()[0] in {"started", "error", "test", "event", "error_big"} for line in done.stdout.splitlines()
        )
        written = sum(file.read_bytes().count(b'\n{"id"') for file in Path(temporary).glob("spool/*"))
        if written != wanted + 1:
            sys.exit(f"{wanted + 1} calls, but {written} records")
    costs: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        name, microseconds = line.split()
        costs.setdefault(name, []).append(float(microseconds))
    return costs


if __name__ == "__main__":
    main()

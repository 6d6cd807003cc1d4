"""How soon a change of state is a notification.

    python bench/notify.py [--rounds 15]

Method. A daemon with one channel, whose address is an HTTP receiver in this process. A script's event is appended to the
spool, as emitters do; the clock runs until the receiver has the message that follows from it. One change after the other,
each of a PRD of its own: an agent waits for a person, goes on, the run fails, another is done. `grace` is 0: it is added
to the first by choice of who sets the channel up.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from serving import machine, percentile, row, serving

from claude_loop.paths import Home
from claude_loop.spool_writer import SpoolWriter

CHANNEL = '[[notify]]\nname = "bench"\nurls = ["json://127.0.0.1:{port}/"]\ngrace = 0\n'


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.came = threading.Semaphore(0)


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.release()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        del arguments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(f"notify: {machine()}\n")
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, args=(0.05,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as temporary:
        folder = Path(temporary)
        (folder / "config/claude-loop").mkdir(parents=True)
        (folder / "config/claude-loop/config.toml").write_text(CHANNEL.format(port=receiver.server_port))
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        with serving(folder / "home") as served:
            measure(SpoolWriter(Home(served.home), "bench"), receiver, arguments.rounds)
    receiver.shutdown()


def measure(spool: SpoolWriter, receiver: Receiver, rounds: int) -> None:
    times: dict[str, list[float]] = {"a wait begins": [], "a wait ends": [], "a run fails": [], "a run is done": []}
    for number in range(rounds):
        waits, ends = {"project": "bench", "prd_id": f"W{number}"}, {"project": "bench", "prd_id": f"E{number}"}
        spool.emit("prd.started", {}, **waits)
        spool.emit("prd.started", {}, **ends)
        time.sleep(0.3)
        changes = (
            ("a wait begins", "agent.waiting", {"for": "human", "reason": "go on?"}, waits),
            ("a wait ends", "agent.resumed", {}, waits),
            ("a run fails", "prd.completed", {"success": False}, waits),
            ("a run is done", "prd.completed", {"success": True}, ends),
        )
        for name, type_, data, ids in changes:
            begun = time.perf_counter()
            spool.emit(type_, data, **ids)
            if not receiver.came.acquire(timeout=30):
                sys.exit("no message came within 30 s")
            times[name].append(time.perf_counter() - begun)
    for name, seconds in times.items():
        middle, worst = percentile(seconds, 0.5), max(seconds)
        row(f"{name}: notified at p50, worst", f"{middle:.2f} s, {worst:.2f} s", "≤ 2 s", reached=worst <= 2)


if __name__ == "__main__":
    main()

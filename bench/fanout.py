"""Fan-out of committed events to Socket.IO clients, beside what else one could use, and what stalled clients cost.

    python bench/fanout.py [--clients 1,10,100,1000] [--rounds 3] [--quick] [--only throughput|stalled]

Method. The servers and the clients are processes of their own on one machine. The clients are bare websockets on
uvloop that count instead of parsing: a frame of `subscribe` counts `upto` minus `prev`, after checking that `prev` is
where the client stands; any other message counts one. The first client parses every frame with orjson and checks each
`seq`; every eleventh reads the times in its frames for the latency. All clocks are CLOCK_MONOTONIC, which processes
share. A delivery is one event at one client.

Throughput: the whole server commits events (SQLite, synchronous=FULL, with the read model) as fast as its readers
follow; they pass the hub, not the intake, in the slices that a body of NDJSON is cut into, and the time of a commit is
that from handing over a slice until it is durable. The time runs from the first append to the last byte at the last client. The
others send the same event and keep no log: python-socketio's and Node socket.io's defaults, `emit("event", event)` for
each event; nginx with nchan, one worker, published to over one connection, 16 on their way at a time. For 100 clients
they take turns in each round, and the median counts; for other numbers only ours is measured.

Stalled: at steady rates, rounds with and without two clients that subscribe and never read again, alternating; they
are not cut off (write timeout 600 s), so that they weigh all the time, and each round begins 1.5 s after they have come:
what it costs to give them the history is not part of it. Each event is due at its time and bears it; what has become due
when the publisher looks, each millisecond if it can, is one append. So the latency counts from when an event was due,
whoever was late (no coordinated omission). Memory is the server's resident set.

Limit. 5,000 events a second to 100 clients nearly fill this machine. In a run at load 7, in which 20,000 of them took ten seconds,
each cost the server 185 us of processor time, the clients 60 us: 0.93 and 0.30 of a thread at that rate, where the two
threads here are of one core and do 60 % each while both are busy. What comes on top, a commit or a stalled reader, waits its
turn, and so does the answer to a commit, which needs the same loop. py-spy of the server meanwhile, in samples that hold
the interpreter's lock: 52 % serves the readers (24 % the writes to 100 sockets), 12 % is the publisher, which lives in this
process, 9 % tells of what was committed, 4 % is the log's thread, 5 % looks at plans, 4 % at owners of runs, 3 % the search
index; the rest is the loop. A tenth of that rate leaves room: its rows are above.
What had delayed the others by 150 ms while two clients stalled was the collector's look at everything, which fell into
those rounds: it now leaves out what lives since the start, takes some 50 ms and is made seldom (heap.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fanout_clients import run_clients
from fanout_servers import PEERS, resident, serve_nchan, serve_ours, serve_plain
from serving import machine, row

OTHERS = {"plain": "python-socketio, `emit`", "node": "Node socket.io, `emit`", "nchan": "nginx nchan, in memory"}
MODES = {"ours": "subscribe", "plain": "plain", "node": "plain", "nchan": "nchan"}
# Of how many events a round consists at 100 clients; fewer where each costs more.
EVENTS = {"ours": 100_000, "plain": 3_000, "node": 10_000, "nchan": 30_000}
AT_100 = 100
# Events a second at which latency is measured.
STEADY = (500, 5_000)
# Seconds after which clients that stall have been given what the kernel takes for them, and more is not written.
SETTLED = 1.5
FANOUT = Path(__file__).resolve()


class Child:
    """A server or the clients, spoken to in lines of JSON."""

    def __init__(self, role: str, **options: Any) -> None:
        python = [sys.executable, str(FANOUT), "--role", role, "--options", json.dumps(options)]
        command = ["node", "server.mjs"] if role == "node" else python
        self.process = subprocess.Popen(
            command, cwd=PEERS if role == "node" else None, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hello = self.hear()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a child ended: {self.process.wait()}")
        return json.loads(line)

    def tell(self, do: str, **request: Any) -> None:
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.tell(do, **request)
        return self.hear()

    def stop(self) -> None:
        self.tell("stop")
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def one_throughput(role: str, clients: int, events: int) -> tuple[float, float, dict[str, Any]]:
    """Deliveries a second, deliveries for a second of the server's processor time, and what else the server said."""
    server = Child(role)
    readers = Child("clients", port=server.hello["port"], count=clients, mode=MODES[role])
    server.ask("prepare", **{"with": [events]})
    cpu = server.ask("cpu")["cpu"]
    began = server.ask("flat_out", **{"with": [events]})
    result = readers.ask("wait", events=events)
    after = server.ask("cpu")
    rate = result["events"] / ((result["ended"] - began["began"]) / 1e9)
    worked = result["events"] / max(after["cpu"] - cpu, 0.01)
    print(
        f"  {role:6} {events:>8,} events to {clients:>5} clients: {rate:>11,.0f} deliveries/s, {worked:>11,.0f} a CPU "
        f"second, {result['events'] / result['frames']:5.1f} events a frame, {after['resident'] / 1e6:.0f} MB"
    )
    readers.stop()
    server.stop()
    return rate, worked, began


def throughput(counts: list[int], rounds: int, scale: int) -> None:
    others = [role for role in OTHERS if role_is_here(role)]
    if AT_100 in counts:
        results: dict[str, list[tuple[float, float, dict[str, Any]]]] = {}
        for _ in range(rounds):
            for role in (*others, "ours"):
                results.setdefault(role, []).append(one_throughput(role, AT_100, EVENTS[role] // scale))
        report(results)
    for clients in counts:
        if clients != AT_100:
            events = min(200_000, EVENTS["ours"] * AT_100 // clients) // scale
            rates = [one_throughput("ours", clients, events)[0] for _ in range(rounds)]
            row(f"fan-out to {clients:,} clients", f"{statistics.median(rates):,.0f} deliveries/s")


def role_is_here(role: str) -> bool:
    if role == "node":
        return shutil.which("node") is not None and (PEERS / "node_modules").is_dir()
    return role != "nchan" or shutil.which("nginx") is not None


def report(results: dict[str, list[tuple[float, float, dict[str, Any]]]]) -> None:
    def median(role: str, what: int = 0) -> float:
        return statistics.median(result[what] for result in results[role])

    ours = median("ours")
    row("fan-out to 100 clients", f"{ours:,.0f} deliveries/s", "≥ 1,000,000", reached=ours >= 1_000_000)
    row("  for a second of the server's processor time", f"{median('ours', 1):,.0f}")
    commits = statistics.median(began["commit_p99"] for _, _, began in results["ours"])
    row("  commits meanwhile, p99", f"{commits:.0f} ms", "≤ 60 ms", reached=commits <= 60)
    for role, title in OTHERS.items():
        if role not in results:
            row(f"  {title}", "not here")
            continue
        rate, least = median(role), 15 if role == "plain" else 1
        ratio = statistics.median(
            mine[0] / other[0] for mine, other in zip(results["ours"], results[role], strict=True)
        )
        row(f"  {title}", f"{rate:,.0f} deliveries/s")
        row("    ours against it", f"{ratio:.1f} ×", f"> {least} ×", reached=ratio > least)


def stalled(clients: int, rate: int, seconds: float, rounds: int) -> None:
    server = Child("ours")
    readers = Child("clients", port=server.hello["port"], count=clients, mode="subscribe")
    pid, events = server.hello["pid"], int(rate * seconds)

    def one_round() -> tuple[float, float, float]:
        before = resident(pid)
        server.ask("steady", **{"with": [events, rate]})
        result = readers.ask("wait", events=events)
        return result["p50"], result["p99"], (resident(pid) - before) / 1e6

    server.ask("prepare", **{"with": [20_000]})
    server.ask("flat_out", **{"with": [20_000]})  # history for the stalled ones, and a warm server
    readers.ask("wait", events=20_000)
    without: list[tuple[float, float, float]] = []
    with_two: list[tuple[float, float, float]] = []
    for number in range(rounds + 1):
        for results, count in ((without, 0), (with_two, 2)):
            readers.ask("stall", count=count)
            time.sleep(SETTLED)
            result = one_round()
            readers.ask("unstall")
            if number:  # in the first, the log opens what reading history needs
                results.append(result)
    readers.stop()
    server.stop()
    p50, p99 = (statistics.median(values) for values in list(zip(*without, strict=True))[:2])
    change = statistics.median(each[1] for each in with_two) / p99 - 1
    grown = statistics.median(each[2] for each in with_two)
    row(f"{rate:,} events/s to {clients} clients, from emit to receipt, p50, p99", f"{p50:.1f}, {p99:.1f} ms")
    beside = statistics.median(each[1] for each in with_two)
    if rate == STEADY[-1]:
        row("  p99 with 2 stalled clients", f"{beside:.1f} ms", "≤ 60 ms", reached=beside <= 60)
    row("  p99 with 2 stalled clients, more", f"{change:+.1%}", "< +20%", reached=change < 0.2)
    row("  memory of a round with 2 stalled clients", f"{grown:+.1f} MB", "< 5 MB", reached=grown < 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", default="1,10,100,1000", help="numbers, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--only", choices=["throughput", "stalled"])
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--options", default="{}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        import uvloop

        roles = {"ours": serve_ours, "plain": serve_plain, "nchan": serve_nchan, "clients": run_clients}
        uvloop.run(roles[args.role](**json.loads(args.options)))
        return
    scale = 10 if args.quick else 1
    print(f"fan-out: {machine()}\n")
    if args.only != "stalled":
        throughput([int(count) for count in args.clients.split(",")], args.rounds, scale)
    if args.only != "throughput":
        for rate in STEADY:
            stalled(AT_100, rate=rate, seconds=4 / scale, rounds=args.rounds + 2)


if __name__ == "__main__":
    main()

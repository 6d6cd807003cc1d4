"""Where the time of an event goes on its way into the log: each stage alone, in one thread, beside the bare loop.

    python bench/stages.py [--events 20480] [--rounds 5]

Method. The events of `bench/ingest.py`, in groups of 1024, take the daemon's own way without the daemon: accepted
(parsed, checked, redacted, completed), looked up by id, numbered with one-fact-one-event, folded into the read model,
written as JSON, inserted, the read model's documents stored, committed with `synchronous=FULL`, answered. Each stage is
timed by the thread's processor time, so that others on the machine weigh little; the best round of each counts, and so for
the bare loop, which is that of `bench/ingest.py`.

This is the profile behind the rows of durable ingest. The stages run one after the other here. In the daemon one thread
takes lines of NDJSON from the first stage to their JSON, while another inserts and commits the group before, which needs no
interpreter. Lines of the spool take the same way behind the event loop, which brings them into the order of their times:
for that it looks only at the time of each line that our emitters have written, which takes, with
reading and splitting, 2.8 us where it is alone. In the daemon the event loop's thread uses 8 us of processor time for a
spooled event and 3 for one of NDJSON, what follows a commit included; the log's thread uses 19 to 21 for either, and both
need the interpreter.

A share of 50 % of the bare loop allows an event twice the bare loop's time. With marks in the code, in a run of 42,290
events a second, NDJSON took 23.6 us an event by the clock: 20 in the first of the two threads, whose stages take 13
by themselves (it waits for the lock, which answers and readers need too, and meets objects that another core has had),
and 3 at the ends of each request, when its body is read and when its last commit has nothing beside it. The second
thread had 10 us to spare. What makes an event more than a row (validation, secrets, exactly once, one fact one event, the
state of every card) is Python's work, and one interpreter does it. Groups of half the size take 9 % longer, of twice the
size 4 % less, and twice as long to answer. A second process for the first stage was tried and left out: handing the
events over cost most of what it saved.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from ingest import bare_sqlite, event
from serving import json_bytes, machine, row

from claude_loop.clock import SystemClock
from claude_loop.eventlog.base import LogState
from claude_loop.eventlog.facts import Facts
from claude_loop.eventlog.numbering import EntityCache, Numbering, fold_in
from claude_loop.eventlog.sqlite_file import open_writer, write_log_row
from claude_loop.eventlog.sqlite_rows import find_by_id, find_recent, insert_events, load_document, store_documents
from claude_loop.events import write_json
from claude_loop.heap import settle
from claude_loop.intake.accept import Acceptor
from claude_loop.progress.projection import ProgressProjection
from claude_loop.settings import LimitSettings, RedactSettings
from claude_loop.transports.http_outcome import Outcome, Slice

GROUP = 1024
STAGES = {
    "accept": "accepted: parsed, checked, redacted, completed",
    "find": "looked up by id",
    "number": "numbered, one fact one event",
    "fold": "folded into the read model",
    "json": "written as JSON",
    "insert": "inserted, five indexes",
    "documents": "documents of the read model stored",
    "commit": "committed",
    "answer": "answered",
}
SQLITE = ("find", "insert", "documents", "commit")


class Way:
    """One log, and the time that each stage has taken there."""

    def __init__(self, connection: sqlite3.Connection, state: LogState) -> None:
        self.connection = connection
        self.clock = SystemClock()
        self.acceptor = Acceptor(LimitSettings(), RedactSettings(), self.clock)
        self.projection = ProgressProjection()
        self.cache = EntityCache(lambda key: load_document(connection, "read_model", key))
        self.facts = Facts(lambda *wanted: find_recent(connection, *wanted))
        self.state = state
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.seconds[name] += time.thread_time() - began

    def take(self, lines: list[bytes]) -> None:
        """One group, all the way."""
        connection, known = self.connection, {}
        with self.stage("accept"):
            clear = self.acceptor.is_clear(b"\n".join(lines))
            events = [self.acceptor.accept_line(line, source="http", clear=clear) for line in lines]
        connection.execute("BEGIN IMMEDIATE")
        with self.stage("find"):
            known = find_by_id(connection, [each.id for each in events])
        received_at = self.clock.now_us() // 1000
        numbering = Numbering(self.state, received_at, dict, self.facts, self.projection, self.cache)
        with self.stage("number"):
            appended = numbering._numbered(events, known)  # noqa: SLF001 - a stage by itself
        with self.stage("fold"):
            fold_in(self.projection, numbering.new, self.cache)
            self.facts.settle()
        with self.stage("json"):
            write_json(numbering.new)
        with self.stage("insert"):
            insert_events(connection, numbering.new)
        with self.stage("documents"):
            store_documents(connection, "read_model", self.cache.dirty)
        with self.stage("commit"):
            connection.execute("COMMIT")
            self.cache.folded()
        with self.stage("answer"):
            Outcome().add(Slice(list(range(len(events))), events, []), appended)
        self.state = replace(self.state, head=self.state.head + len(numbering.new))


def one_round(count: int) -> dict[str, float]:
    """Microseconds an event, by stage."""
    stem, now = f"{time.time_ns() // 1000}-1-00000000", time.time_ns() // 1000
    lines = [json_bytes(event(stem, number, now)) for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory(prefix="claude-loop-bench-") as folder:
        connection, log_row = open_writer(Path(folder) / "events.db", SystemClock(), "full")
        with closing(connection):
            way = Way(connection, log_row.state)
            for start in range(0, count, GROUP):
                way.take(lines[start : start + GROUP])
            write_log_row(connection, log_row)
    return {name: seconds / count * 1e6 for name, seconds in way.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_480)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"stages: {machine()}\n")
    settle()  # as the daemon
    rounds, bare = [], 0.0
    for _ in range(arguments.rounds):
        bare = max(bare, bare_sqlite(arguments.events, time.thread_time))
        rounds.append(one_round(arguments.events))
    best = {name: min(each[name] for each in rounds) for name in STAGES}
    total, stored = sum(best.values()), sum(best[name] for name in SQLITE)
    for name, title in STAGES.items():
        row(title, f"{best[name]:.1f} µs")
    row("an event, all stages", f"{total:.1f} µs")
    row("  of which SQLite", f"{stored:.1f} µs")
    row("the bare loop, an event", f"{1e6 / bare:.1f} µs")
    row("  time that 35 % of it allows an event, 50 %", f"{1e6 / bare / 0.35:.0f}, {1e6 / bare / 0.5:.0f} µs")


if __name__ == "__main__":
    main()

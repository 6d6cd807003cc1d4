"""All benchmarks, one after the other, one table, and docs/performance.md written from it. Called by `bin/bench`.

    bin/bench [--quick] [--only emit_cost,ingest] [--record]

Nothing here measures: each benchmark is a script of its own that says its method in its docstring and prints rows. What
was recorded last of each is kept in recorded.json, so that one may be recorded again without the others.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from serving import RECORD, ROOT, machine

HERE = Path(__file__).resolve().parent
DOCUMENT = ROOT / "docs" / "performance.md"
RECORDED = HERE / "recorded.json"


@dataclass(frozen=True)
class Benchmark:
    script: str
    title: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()


BENCHMARKS = (
    Benchmark("emit_cost", "One call of the emitter", (), ("--rounds", "8")),
    Benchmark("hook_cost", "One call of the hook", (), ("--rounds", "12")),
    Benchmark("cli_start", "Starting the command line", (), ("3",)),
    Benchmark("latency", "From a bash call to a reader", (), ("--seconds", "5")),
    Benchmark("ingest", "Durable ingest", (), ("--events", "20000", "--rounds", "2")),
    Benchmark("stages", "Where the time of an event goes", (), ("--events", "10240", "--rounds", "1")),
    Benchmark("fanout", "Fan-out", (), ("--quick", "--rounds", "1", "--clients", "100")),
    Benchmark("clients", "Idle clients", (), ("--clients", "200")),
    Benchmark("resume", "Coming back", (), ("--events", "20000")),
    Benchmark("growth", "As the log grows", (), ("--sizes", "10000,100000", "--idle-seconds", "5")),
    Benchmark("run_cost", "Under `claude-loop run`", (), ("--rounds", "2", "--megabytes", "20")),
    Benchmark("notify", "From a change to a notification", (), ("--rounds", "2")),
    Benchmark("monitor", "The monitor page", (), ("--seconds", "10", "--stored", "20000", "--only", "latency,paint")),
)
PREAMBLE = """# Performance

What `bin/bench --record` measured; the page is written by it and by nothing else. Trust the ratios: what stands side by
side in a section was measured by turns in one run on one machine. A target that is missed says so.
"""


@dataclass(frozen=True)
class Row:
    bench: str
    name: str
    figure: str
    target: str
    reached: bool | None


@dataclass(frozen=True)
class Ran:
    benchmark: Benchmark
    rows: list[Row]
    machine: str
    date: str
    seconds: float
    status: int = 0


def run(benchmark: Benchmark, *, quick: bool) -> Ran:
    """Run one benchmark with its output shown as it comes."""
    head, date, began = machine(), f"{datetime.now(UTC):%Y-%m-%d}", time.monotonic()
    arguments = benchmark.quick if quick else benchmark.arguments
    print(f"\n== {benchmark.title}", flush=True)
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".jsonl") as file:
        command = [sys.executable, str(HERE / f"{benchmark.script}.py"), *arguments]
        done = subprocess.run(command, env={**os.environ, RECORD: file.name}, check=False)
        rows = [Row(**json.loads(line)) for line in Path(file.name).read_text(encoding="utf-8").splitlines()]
    if not (rows or done.returncode):
        raise SystemExit(f"{benchmark.script} printed no row")
    return Ran(benchmark, rows, head, date, round(time.monotonic() - began), done.returncode)


def recorded(ran: Iterable[Ran]) -> list[Ran]:
    """What was recorded before, with ``ran`` in place of what is older; written back."""
    kept = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    for one in ran:
        kept[one.benchmark.script] = {
            "rows": [asdict(row) for row in one.rows],
            "machine": one.machine,
            "date": one.date,
            "seconds": one.seconds,
        }
    RECORDED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [
        Ran(benchmark, [Row(**row) for row in one["rows"]], one["machine"], one["date"], one["seconds"])
        for benchmark in BENCHMARKS
        if (one := kept.get(benchmark.script)) is not None
    ]


def method(benchmark: Benchmark) -> str:
    """What the benchmark's docstring says of how it measures."""
    text = ast.get_docstring(ast.parse((HERE / f"{benchmark.script}.py").read_text(encoding="utf-8"))) or ""
    _, _, told = text.partition("Method")
    return told.lstrip(".:").strip().partition("\n\n    python")[0]


def missed(ran: Iterable[Ran]) -> list[str]:
    """What was not reached, a row under another one with that one's name."""
    found, above = [], ""
    for one in ran:
        for row in one.rows:
            above = above if row.name.startswith("  ") else row.name
            if row.reached is False:
                name = row.name if row.name == above else f"{above}: {row.name.strip()}"
                found.append(f"{name}: {row.figure} ({row.target})")
    return found


def document(ran: list[Ran]) -> str:
    parts = [PREAMBLE]
    short = missed(ran)
    parts.append("## Where it falls short\n")
    parts.append("\n".join(f"- {each}" for each in short) + "\n" if short else "Every target was reached.\n")
    for one in ran:
        marks = {None: "", True: "reached", False: "**missed**"}
        parts.append(f"## {one.benchmark.title}\n")
        command = " ".join(("python", f"bench/{one.benchmark.script}.py", *one.benchmark.arguments))
        parts.append(f"`{command}`, {one.date}, {one.seconds} s on {one.machine}.\n")
        parts.append("| | measured | target | |\n|---|---:|---|---|")
        for row in one.rows:
            name = row.name.strip() if not row.name.startswith("  ") else f"– {row.name.strip()}"
            parts.append(f"| {_cell(name)} | {_cell(row.figure)} | {_cell(row.target)} | {marks[row.reached]} |")
        parts.append("\n" + method(one.benchmark) + "\n")
    return "\n".join(parts)


def write(ran: list[Ran]) -> None:
    DOCUMENT.write_text(document(recorded(ran)).rstrip() + "\n", encoding="utf-8")
    print(f"\nwritten: {DOCUMENT.relative_to(ROOT)}")


def _cell(text: str) -> str:
    return text.strip().replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__.partition("\n")[0])
    names = [benchmark.script for benchmark in BENCHMARKS]
    parser.add_argument("--only", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument(
        "--quick", action="store_true", help="much less of everything: shows that it works, not how fast"
    )
    parser.add_argument("--record", action="store_true", help="put what was measured into docs/performance.md")
    parser.add_argument(
        "--render", action="store_true", help="write docs/performance.md from what is recorded, and stop"
    )
    arguments = parser.parse_args()
    if arguments.render:
        write([])
        return
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if arguments.record and arguments.quick:
        parser.error("--record goes with benchmarks at their full length")
    print(machine())
    ran = [run(benchmark, quick=arguments.quick) for benchmark in BENCHMARKS if benchmark.script in wanted]
    short, failed = missed(ran), [one.benchmark.script for one in ran if one.status]
    print("\n== Missed\n" + "\n".join(short or ["nothing"]))
    if arguments.record and not failed:
        write(ran)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

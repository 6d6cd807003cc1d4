"""What `bin/bench` makes of the rows that the benchmarks leave."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT

SCRIPT = """
import sys
sys.path.insert(0, "bench")
import run
benchmark = run.Benchmark("cli_start", "Starting", (), ("1",))
rows = [
    run.Row("cli_start", "start", "12 ms", "≤ 10 ms", False),
    run.Row("cli_start", "  of it | spent", "3 ms", "≤ 5 ms", True),
    run.Row("cli_start", "  waited", "9 ms", "≤ 5 ms", False),
    run.Row("cli_start", "memory", "12 MB", "", None),
]
print(run.document([run.Ran(benchmark, rows, "a machine, load 0.5 at the start", "2026-11-28", 12)]))
"""


def test_the_document_says_what_was_missed_and_how_it_was_measured() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout
    missed = text[text.index("## Where it falls short") : text.index("## Starting")]
    assert missed.strip().splitlines()[2:] == ["- start: 12 ms (≤ 10 ms)", "- start: waited: 9 ms (≤ 5 ms)"]
    assert "| start | 12 ms | ≤ 10 ms | **missed** |" in text
    assert "| – of it \\| spent | 3 ms | ≤ 5 ms | reached |" in text
    assert "`python bench/cli_start.py`, 2026-11-28, 12 s on a machine, load 0.5 at the start." in text
    assert "Wall time is taken around the process" not in missed
    assert "ound the process" in text, "the method of the benchmark is missing"


def test_every_benchmark_says_its_method() -> None:
    script = (
        'import sys; sys.path.insert(0, "bench"); import run; '
        "print([b.script for b in run.BENCHMARKS if len(run.method(b)) < 200])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What `bin/prove` asks a daemon about its memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prove import heap
from tests.support import ROOT

_PROGRAM = """
import sys
from pathlib import Path
from tests.prove import heap

kept = []
heap.tell_on_signal(Path(sys.argv[1]))
print(flush=True)
for _ in sys.stdin:
    kept.append([bytes(100_000) for _ in range(50)] + [(n, n) for n in range(1_000, 61_000)])
    kept += [bytes(10_000_000)]
    kept.pop()
    print(flush=True)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "heap.json")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.requires("mallinfo2")
async def test_what_is_kept_counts_and_what_was_freed_does_not(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    before = await heap.ask(process.pid, tmp_path / "heap.json")
    process.stdin.write("\n")
    process.stdin.flush()
    await asyncio.to_thread(process.stdout.readline)
    after = await heap.ask(process.pid, tmp_path / "heap.json")
    assert 5 <= after.mb - before.mb < 6
    # A tuple and an integer each; what else the interpreter keeps is little.
    assert 120_000 <= after.objects - before.objects < 125_000

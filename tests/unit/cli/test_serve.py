"""What `serve` sees to before anything of the daemon is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

# In the daemon's place: a statement that outgrows SQLite's memory, and where it puts the rest.
_INSTEAD = """
import os, sys, types

def run(settings, arguments):
    import sqlite3
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA temp_store = FILE")
    connection.execute("PRAGMA temp.cache_size = 1")
    numbers = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n LIMIT 2000)"
    connection.execute(f"CREATE TEMP TABLE rows AS {numbers} SELECT randomblob(500) FROM n")
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    opened = [os.readlink(link) for link in links if os.path.lexists(link)]
    print(*[os.path.dirname(name) for name in opened if "etilqs" in name])

daemon = types.ModuleType("claude_loop.daemon")
daemon.run = run
sys.modules["claude_loop.daemon"] = daemon
from claude_loop.cli.serve import serve
serve.main([], standalone_mode=False)
"""


def _place(home: Path, **environ: str) -> str:
    names = {"CLAUDE_LOOP_HOME": str(home), "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home)}
    inherited = {name: value for name, value in os.environ.items() if name != "SQLITE_TMPDIR"}
    done = subprocess.run(
        [sys.executable, "-c", _INSTEAD],
        env=inherited | names | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.requires("linux")
def test_what_outgrows_memory_lies_beside_the_log(home: Path, tmp_path: Path) -> None:
    """`/tmp` may be small, full, or not to be written by a service."""
    home.mkdir(exist_ok=True)
    assert _place(home) == str(home)
    assert _place(home, SQLITE_TMPDIR=str(tmp_path)) == str(tmp_path)

"""What becomes of requests that cannot be answered."""

from __future__ import annotations

import os
from pathlib import Path

from claude_loop.clock import ManualClock
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_flush import STALE_SECONDS, STALE_UNKNOWN_SECONDS, FlushRequests
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home

GONE = 4_194_400  # above the largest pid there can be


def test_requests_nobody_waits_for_are_cleaned_up(home: Path) -> None:
    files, clock = SpoolFiles(Home(home)), ManualClock()
    Home(home).prepare()
    requests = FlushRequests(files, SpoolTable(), clock)
    alive, gone, unknown = f"1769428800000001-{os.getpid()}-a.7", f"1769428800000001-{GONE}-a.7", "mytool.7"
    made = clock.now_us() / 1e6
    for entry in (alive, gone, unknown, "nonsense"):
        (Home(home).flush / entry).touch()
        os.utime(Home(home).flush / entry, (made, made))

    def left_after(seconds: float) -> set[str]:
        clock.advance(seconds)
        requests.look()
        requests.drop_stale()
        return set(files.flush_requests())

    assert left_after(STALE_SECONDS - 1) == {alive, gone, unknown, "nonsense"}
    assert left_after(1) == {alive, unknown}
    assert left_after(STALE_UNKNOWN_SECONDS) == {alive}

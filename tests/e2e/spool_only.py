"""A daemon that does nothing but drain one home's spool into its log: `spool_only.py HOME`, until it is killed.

Files leave faster than they do in earnest, so that a test that kills it every now and then meets every step.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from claude_loop.clock import SystemClock
from claude_loop.event_bus import EventBus
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.hub import Hub
from claude_loop.intake import spool_drain, spool_leaving
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool import SpoolIntake
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings


async def main(root: Path) -> None:
    spool_leaving.QUIET_GONE = spool_leaving.QUIET_ALIVE = spool_leaving.QUIET_UNKNOWN = 0.05
    spool_leaving.SETTLE_SECONDS = 0.3
    spool_drain.LOOK_SECONDS = 0.05
    home, clock = Home(root), SystemClock()
    home.prepare()
    hub = Hub(SqliteEventLog(home.database, clock=clock), EventBus())
    await hub.start()
    intake = SpoolIntake(home, hub, Acceptor(LimitSettings(), RedactSettings(), clock), clock)
    await intake.start()
    await asyncio.Event().wait()


asyncio.run(main(Path(sys.argv[1])))

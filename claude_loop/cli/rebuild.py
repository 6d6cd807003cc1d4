"""`rebuild`: the read model anew from the log, with the daemon down."""

from __future__ import annotations

import asyncio
import time

import click

from claude_loop.cli.terminal import note, plural
from claude_loop.instance import InstanceLock
from claude_loop.paths import Home


@click.command()
def rebuild() -> None:
    """Make the read model anew from the log.

    It never needs to be, unless the disk has spoiled it; this is for peace of mind. The daemon must be down.
    """
    from claude_loop.errors import StorageFailed
    from claude_loop.eventlog.base import nobody
    from claude_loop.eventlog.sqlite import SqliteEventLog
    from claude_loop.progress.projection import ProgressProjection

    async def run(home: Home) -> tuple[int, bool]:
        log = SqliteEventLog(home.database, ProgressProjection())
        await log.open(nobody)
        try:
            try:
                before = await log.entities("")
            except (ValueError, StorageFailed):  # a document that cannot be read is a reason to come here
                before = None
            return await log.rebuild(), before == await log.entities("")
        finally:
            await log.close()

    home = Home.from_environment()
    home.prepare()
    lock = InstanceLock(home)
    lock.acquire()
    started = time.monotonic()
    try:
        count, same = asyncio.run(run(home))
    finally:
        lock.release()
    note(
        f"Folded {plural(count, 'event')} in {time.monotonic() - started:.1f} s; "
        f"the read model is {'the same as before' if same else 'not what it was before'}."
    )

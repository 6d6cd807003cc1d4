"""What the disk does to the log: it loses what was not synced, fills up, turns read-only, damages pages, goes back."""

from __future__ import annotations

import asyncio

from tests.prove.load import Load
from tests.prove.power import Disk
from tests.prove.scenarios.killed import no_resets
from tests.prove.world import World


async def power(world: World) -> None:
    """Power is lost under load: what was not synced is gone, what was acknowledged is not."""
    daemon = world.daemon(cold=True, quick=True)
    disk = Disk(world, daemon)
    await asyncio.to_thread(disk.start)
    load = Load(world, daemon, shells=0)
    load.start()
    for _ in range(world.pick(2, 25)):
        for _ in range(world.dice.randint(2, 6)):
            await load.progress(60)
        await asyncio.sleep(world.dice.uniform(0.0, 0.05))
        await asyncio.to_thread(disk.cut)
        await asyncio.to_thread(disk.start)
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)
    world.count(syncs=disk.syncs)

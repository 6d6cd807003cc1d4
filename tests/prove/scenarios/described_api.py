"""The daemon does what its own description says."""

from __future__ import annotations

import asyncio

from tests.prove.world import World


async def api(world: World) -> None:
    """Requests made from `/api/openapi.json`: what fits is taken, what does not is refused, answers are as described."""
    from tests.prove import described  # it takes a second that the other scenarios need not wait for

    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    targets = await asyncio.to_thread(described.targets, daemon.url)
    token = daemon.home.token.read_text().strip()
    if world.size == "short":  # three seeds in a row cover all
        targets = targets[world.seed % 3 :: 3]
    requests = 0
    for target in targets:
        requests += await asyncio.to_thread(
            described.attack, target, world.pick(4, 200), world.dice.randrange(2**32), token
        )
    assert daemon.stop() == 0
    world.count(operations=len(targets), requests=requests)

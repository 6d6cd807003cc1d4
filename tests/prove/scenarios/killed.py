"""The daemon is killed: at any moment, and at each labelled place."""

from __future__ import annotations

import asyncio

from tests.prove import labels, oracle
from tests.prove.load import Load
from tests.prove.world import DaemonUnderTest, World
from tests.support import eventually


async def kill(world: World) -> None:
    """SIGKILL at random moments, some while the daemon has hardly begun."""
    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon, shells=2, http=2)
    load.start()
    for _ in range(world.pick(5, 50)):
        if world.dice.random() < 0.8:
            await load.progress()
            await asyncio.sleep(world.dice.uniform(0.0, 0.3))
        else:
            await asyncio.sleep(world.dice.uniform(0.0, 0.05))
        await asyncio.to_thread(daemon.kill)
        await asyncio.to_thread(daemon.start)
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)


async def at_labels(world: World) -> None:
    """SIGKILL at every labelled place around commit, announcement, offset update and spool claim."""
    daemon = world.daemon(quick=True)
    await die_at_each(world, daemon, _share(world, labels.COMMIT + labels.SPOOL))


async def at_prune(world: World) -> None:
    """SIGKILL at every labelled place around prune; the log keeps 200 events, so it prunes all the time."""
    daemon = world.daemon(quick=True, environ={"CLAUDE_LOOP_RETENTION__EVENTS": "200"})
    await die_at_each(world, daemon, labels.PRUNE)


def _share(world: World, all_labels: tuple[str, ...]) -> tuple[str, ...]:
    """In the short set three seeds in a row cover all labels; a mutant must meet those inside the transaction."""
    if world.mutant is not None:
        return ("commit.inserted", "commit.offsets", "commit.before")
    if world.size == "long":
        return all_labels
    return all_labels[world.seed % 3 :: 3]


async def die_at_each(world: World, daemon: DaemonUnderTest, places: tuple[str, ...]) -> None:
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon)
    load.start()
    await load.progress()
    for label in places:
        daemon.stop()
        # Soon after a start nobody may be reading yet: what a mutant says too early must be heard.
        hit = world.dice.randint(1, 3) if world.mutant is None else 25
        daemon.plan |= {"die_at": label, "hit": hit, "pause": 0.1 if world.mutant is None else 0.4}
        daemon.launch()  # it may be dead before anybody has seen it serve
        await eventually(lambda: not daemon.is_alive, 60, f"the label {label} reached")
        assert daemon.process.returncode == -9, (label, daemon.process.returncode)
        daemon.kills += 1
        daemon.plan.pop("die_at")
        await asyncio.to_thread(daemon.start)
        await load.progress()
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    world.count(labels=len(places))
    if not daemon.environ.get("CLAUDE_LOOP_RETENTION__EVENTS"):
        no_resets(load)


def no_resets(load: Load) -> None:
    """Nothing was pruned, exchanged or lost: no reader has a reason to be reset."""
    told = {reader.transcript.name: reader.transcript.resets for reader in load.readers if reader.transcript.resets}
    if told:
        raise oracle.Violation(f"readers were reset without a reason: {told}")

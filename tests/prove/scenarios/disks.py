"""What the disk does to the log: it loses what was not synced, fills up, turns read-only, damages pages, goes back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.prove import oracle
from tests.prove.load import Load, judge
from tests.prove.oracle import Violation
from tests.prove.power import Disk
from tests.prove.publishers import HttpPublisher
from tests.prove.readers import one_of_each
from tests.prove.scenarios.killed import no_resets
from tests.prove.stored import read_log
from tests.prove.world import DaemonUnderTest, Skipped, World, get_json
from tests.requirements import missing
from tests.support import eventually, until

_PAGE = 4096
_FILES = ("events.db", "events.db-wal", "events.db-shm")


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
        await _power_returns(daemon, disk)
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)
    world.count(syncs=disk.syncs)


async def _power_returns(daemon: DaemonUnderTest, disk: Disk) -> None:
    try:
        await asyncio.to_thread(disk.start)
    except AssertionError as failure:
        if daemon.is_alive:
            raise  # only slow
        raise Violation(f"what was synced is no log to start with: {str(failure)[-500:]}") from None


async def full(world: World) -> None:
    """The disk fills up under load and is freed again: refused with the reason meanwhile, nothing acknowledged lost."""
    folder = _small_disk(world, megabytes=24)
    daemon = world.daemon(root=folder / "home", quick=True)
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon, shells=0)
    load.start()
    for _ in range(world.pick(2, 20)):
        await load.progress()
        _fill(folder / "filler")
        await eventually(lambda: _health_code(daemon, "storage_full"), 30, "the full disk reported")
        if world.dice.random() < 0.3:
            await asyncio.to_thread(daemon.kill)
            (folder / "filler").unlink()
            await asyncio.to_thread(daemon.start)
        else:
            (folder / "filler").unlink()
        await eventually(lambda: _is_healthy(daemon), 30, "recovery without a restart")
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)


def _small_disk(world: World, megabytes: int) -> Path:
    if reason := missing("tmpfs"):
        raise Skipped(reason)
    folder = world.folder / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "claude-loop-prove", folder], check=True)
    world.at_end(lambda: subprocess.run(["umount", "-l", folder], check=True))
    return folder


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(65_536))
        except OSError:
            return  # full, as it was meant to be


async def _health_code(daemon: DaemonUnderTest, code: str) -> bool:
    health = await get_json(f"{daemon.url}/health")
    return bool(health.get("error", {}).get("code") == code)


async def _is_healthy(daemon: DaemonUnderTest) -> bool:
    return bool((await get_json(f"{daemon.url}/health"))["status"] == "healthy")


async def readonly(world: World) -> None:
    """The kernel refuses writes to the log, as after an error of the disk, then takes them again; and so does fsync."""
    if reason := missing("strace") or missing("linux"):
        raise Skipped(reason)
    daemon = world.daemon(quick=True)
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon)
    load.start()
    for _ in range(world.pick(2, 20)):
        await load.progress()
        call, error = world.dice.choice((("pwrite64", "EROFS"), ("pwrite64", "EIO"), ("fdatasync", "EIO")))
        with _failing(daemon, call, error):
            await eventually(lambda: _is_unhealthy(daemon), 30, f"{error} of {call} reported")
            seen = len(load.acknowledged)
            await asyncio.sleep(world.dice.uniform(0.0, 0.5))
            if call == "pwrite64" and len(load.acknowledged) > seen:
                raise Violation("something was acknowledged that could not be written")
        await eventually(lambda: _is_healthy(daemon), 30, "recovery without a restart")
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)


async def _is_unhealthy(daemon: DaemonUnderTest) -> bool:
    return not await _is_healthy(daemon)


@contextmanager
def _failing(daemon: DaemonUnderTest, call: str, error: str) -> Iterator[None]:
    """While it lasts, ``call`` on the log's write-ahead file fails in every thread of the daemon."""
    watched = ["-P", str(daemon.home.root / "events.db-wal"), "-P", str(daemon.home.database)]
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:error={error}"),
            *(*watched, "-p", str(daemon.pid)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _traced(daemon.pid) == tracer.pid, 10, "the tracer attached")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)


def _traced(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("TracerPid")).split()[1])


async def older(world: World) -> None:
    """The log is exchanged for an older copy, behind the daemon's back or by `restore`: every reader is told."""
    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    readers = one_of_each()
    acknowledged: dict[str, int] = {}
    exchanges = world.pick(2, 20)
    for _ in range(exchanges):
        acknowledged |= await _publish(world, daemon, world.dice.randint(1, 50))
        await _follow(world, daemon, readers)
        backup = await _copy(world, daemon)
        # More than the copy has, seen by everybody, and lost with the exchange.
        await _publish(world, daemon, world.dice.randint(5, 50))
        await _follow(world, daemon, readers)
        told = [len(one.transcript.resets) for one in readers]
        await _exchange(world, daemon, backup)
        acknowledged |= await _publish(world, daemon, world.dice.choice((0, 2, 200)))
        await _follow(world, daemon, readers)
        for one, before in zip(readers, told, strict=True):
            if len(one.transcript.resets) == before:
                raise Violation(f"{one.transcript.name} was not told that the log was exchanged")
    assert daemon.stop() == 0
    stored = await read_log(daemon.home.database)
    judge(world, stored, acknowledged, readers, replaced=True)


async def _publish(world: World, daemon: DaemonUnderTest, events: int) -> dict[str, int]:
    publisher = HttpPublisher("http", world.dice)
    publisher.pause = 0.0
    task = world.tasks.spawn(publisher.run(daemon.url), "publisher")
    await eventually(lambda: len(publisher.acknowledged) >= events, 30, "acknowledgements")
    publisher.stopping = True
    await task
    return publisher.acknowledged


async def _follow(world: World, daemon: DaemonUnderTest, readers: list) -> None:
    """Let the readers come to the end, from where they stand, and go away again."""
    head = (await get_json(f"{daemon.url}/status"))["log"]["cursor"]
    tasks = [world.tasks.spawn(one.run(daemon.url), one.transcript.name) for one in readers]
    for one in readers:
        await eventually(lambda one=one: one.cursor == head, 30, f"{one.transcript.name} at {head}")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _copy(world: World, daemon: DaemonUnderTest) -> Path:
    backup = world.folder / f"copy-{len(list(world.folder.glob('copy-*')))}"
    done = await asyncio.to_thread(daemon.run, "backup", str(backup))
    assert done.returncode == 0, done.stderr
    return backup


async def _exchange(world: World, daemon: DaemonUnderTest, backup: Path) -> None:
    by_hand = world.dice.random() < 0.7
    await asyncio.to_thread(daemon.kill if by_hand else daemon.stop)
    if by_hand:
        for name in _FILES:
            (daemon.home.root / name).unlink(missing_ok=True)
        shutil.copyfile(backup, daemon.home.database)
        daemon.home.database.chmod(0o600)
    else:
        done = await asyncio.to_thread(daemon.run, "restore", str(backup))
        assert done.returncode == 0, done.stderr
    await asyncio.to_thread(daemon.start)


async def clock(world: World) -> None:
    """The wall clock goes back and forth by up to a day under load, also over a restart."""
    offset = world.folder / "offset"
    offset.write_text("0")
    daemon = world.daemon(quick=True, clock_file=str(offset))
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon)
    load.start()
    steps = world.pick(6, 60)
    for _ in range(steps):
        await load.progress()
        fresh = offset.with_suffix(".new")
        fresh.write_text(str(world.dice.choice((-86_400, -3_600, -1, 0, 1, 3_600))))
        fresh.replace(offset)
        if world.dice.random() < 0.3:
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
    await load.progress()
    await load.finish()
    assert daemon.stop() == 0
    stored = await load.check(causal=False)
    no_resets(load)
    received = [event.received_at for event in stored.events]
    if received != sorted(received):
        raise Violation("the time of receipt goes back")
    world.count(steps=steps)


async def corrupt(world: World) -> None:
    """Pages of the log are damaged: it is said, the file is kept, and a new log begins only on request."""
    for number in range(world.pick(1, 20)):
        await _one_damage(world, f"home-{number}")


async def _one_damage(world: World, name: str) -> None:
    daemon = world.daemon(name, quick=True)
    await asyncio.to_thread(daemon.start)
    await _publish(world, daemon, 300)
    assert daemon.stop() == 0
    before = _damage(world, daemon.home.database)
    readers = one_of_each()
    tasks = [world.tasks.spawn(one.run(daemon.url), one.transcript.name) for one in readers]
    if await _starts(daemon):
        await _said_while_it_runs(world, daemon)
        daemon.stop()
    for one in readers:
        oracle.in_order(one.transcript)
    done = await asyncio.to_thread(daemon.run, "restore", "--empty")
    assert done.returncode == 0, done.stderr
    _is_kept(daemon, before)
    await asyncio.to_thread(daemon.start)
    anew = await _publish(world, daemon, 20)
    # Who comes back only now goes on at the head of the new log: what tells is the next event.
    epoch = (await get_json(f"{daemon.url}/status"))["log"]["epoch"]
    await eventually(lambda: all((one.cursor or "").startswith(epoch) for one in readers), 30, "readers come back")
    anew |= await _publish(world, daemon, 5)
    await eventually(lambda: all(one.transcript.head >= max(anew.values()) for one in readers), 30, "readers go on")
    for task in tasks:
        task.cancel()
    assert daemon.stop() == 0
    judge(world, await read_log(daemon.home.database), anew, readers, replaced=True)


async def _starts(daemon: DaemonUnderTest) -> bool:
    """Whether the daemon serves; if it does not, it has said why."""
    try:
        await asyncio.to_thread(daemon.start)
    except AssertionError:
        said = daemon.log.read_text()
        if "log is damaged" not in said or "restore --empty" not in said:
            raise Violation(f"a start was refused without the reason and the way out: {said[-500:]}") from None
        return False
    return True


async def _said_while_it_runs(world: World, daemon: DaemonUnderTest) -> None:
    """Readers from the start meet the damage; from then on nothing is stored, and everybody who asks is told."""
    publisher = HttpPublisher("http", world.dice)
    publishing = world.tasks.spawn(publisher.run(daemon.url), "publisher")
    await eventually(lambda: _health_code(daemon, "log_damaged"), 30, "the damage reported")
    await asyncio.sleep(0.2)  # what was being committed in that moment
    seen = len(publisher.acknowledged)
    await asyncio.sleep(1.5)  # longer than the daemon waits before it tries a failed disk again
    if len(publisher.acknowledged) > seen:
        raise Violation("events were stored in a log that is known to be damaged")
    if not await _health_code(daemon, "log_damaged"):
        raise Violation("the damage was forgotten")
    publishing.cancel()


def _damage(world: World, database: Path) -> bytes:
    """Overwrite pages of the file; what the file then holds."""
    content = bytearray(database.read_bytes())
    pages = len(content) // _PAGE
    for page in world.dice.sample(range(2, pages), max(4, pages // 3)):
        content[page * _PAGE : (page + 1) * _PAGE] = world.dice.randbytes(_PAGE)
    database.write_bytes(content)
    return bytes(content)


def _is_kept(daemon: DaemonUnderTest, before: bytes) -> None:
    kept = [file for file in daemon.home.root.glob("events.db.replaced-*") if not file.name.endswith(("-wal", "-shm"))]
    if len(kept) != 1:
        raise Violation(f"{len(kept)} copies of the damaged file are kept")
    now = kept[0].read_bytes()
    pages = range(len(before) // _PAGE)
    changed = [
        page for page in pages if now[page * _PAGE : (page + 1) * _PAGE] != before[page * _PAGE : (page + 1) * _PAGE]
    ]
    # That a daemon has started is noted in one page; events that came before the damage was met are in others.
    if len(changed) > len(before) // _PAGE // 2:
        raise Violation(f"{len(changed)} of {len(before) // _PAGE} pages of the damaged file were written to")

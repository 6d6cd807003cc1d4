"""Several daemons on one home, and commands that race each other, with systemd and without."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from claude_loop.unit_files import PATH, SERVICE, SOCKET
from tests.e2e.user_manager import UserManager
from tests.prove.load import Load
from tests.prove.oracle import Violation
from tests.prove.scenarios.killed import no_resets
from tests.prove.world import DaemonUnderTest, Skipped, World
from tests.requirements import missing
from tests.support import ROOT, eventually, kill

_ALREADY = "already runs"


async def two(world: World) -> None:
    """Several daemons are started on one home, also the moment another dies: one serves, the others say why not."""
    daemon = world.daemon()
    await asyncio.to_thread(daemon.start)
    load = Load(world, daemon)
    load.start()
    refused = 0
    for _ in range(world.pick(1, 30)):
        await load.progress()
        others = [_rival(world, daemon, number) for number in range(3)]
        for rival in others:
            rival.launch()
        await eventually(lambda others=others: all(one.process.poll() is not None for one in others), 30, "refusals")
        for rival in others:
            if rival.process.returncode == 0 or _ALREADY not in rival.log.read_text():
                raise Violation(f"a second daemon ended {rival.process.returncode}: {rival.log.read_text()[-300:]}")
        refused += len(others)
        daemon.kill()
        await _one_takes_over(world, daemon)
        daemon.start()
    await load.progress()
    await load.finish()
    assert daemon.stop() == 0
    await load.check()
    no_resets(load)
    world.count(refused=refused)


def _rival(world: World, daemon: DaemonUnderTest, number: int) -> DaemonUnderTest:
    """Another daemon for the same home, with a port and a log file of its own."""
    rival = world.daemon(root=daemon.home.root)
    rival.log = world.folder / f"rival-{number}.log"
    rival.log.write_text("")
    return rival


async def _one_takes_over(world: World, daemon: DaemonUnderTest) -> None:
    """Of three that are started at once in the place of the dead one, exactly one lives."""
    rivals = [_rival(world, daemon, number) for number in range(3)]
    for rival in rivals:
        rival.launch()

    def settled() -> bool:
        alive = [one for one in rivals if one.is_alive]
        if len(alive) > 1:
            return False
        if not alive:
            raise Violation("none of three daemons serves a home without one")
        return _pid_in_note(daemon) == alive[0].pid

    await eventually(settled, 30, "one of three daemons")
    winner = next(one for one in rivals if one.is_alive)
    for rival in rivals:
        if rival is not winner and _ALREADY not in rival.log.read_text():
            raise Violation(f"a daemon gave up without the reason: {rival.log.read_text()[-300:]}")
    winner.kill()


def _pid_in_note(daemon: DaemonUnderTest) -> int | None:
    try:
        return int(json.loads(daemon.home.daemon_json.read_bytes())["pid"])
    except (FileNotFoundError, ValueError):
        return None


async def race(world: World) -> None:
    """`up`, `down` and `serve` at the same time: never two daemons, no command hangs, nothing is lost."""
    daemon = world.daemon()
    daemon.environ["CLAUDE_LOOP_PORT"] = str(daemon.port)
    world.at_end(lambda: _end_all(daemon.home.root))
    load = Load(world, daemon, http=1, socketio=0)
    await _up(daemon)
    load.start()
    watching = world.tasks.spawn(_watch_for_two(daemon), "watch")
    commands = 0
    for _ in range(world.pick(1, 30)):
        kinds = [world.dice.choice(("up", "down", "up", "down", "serve")) for _ in range(5)]
        outcomes = await asyncio.gather(*(_command(world, daemon, kind) for kind in kinds))
        commands += len(kinds)
        for kind, (code, said) in zip(kinds, outcomes, strict=True):
            if "Traceback" in said:
                raise Violation(f"`{kind}` broke down: {said[-500:]}")
            if kind == "down" and code != 0:
                raise Violation(f"`down` failed: {said[-500:]}")
        await _up(daemon)
        if watching.done():
            watching.result()
        await load.progress()
    await load.finish()
    watching.cancel()
    assert (await asyncio.to_thread(daemon.run, "down")).returncode == 0
    # The interpreter takes a moment to end once the daemon has let go of the home.
    await eventually(lambda: not _daemons_of(daemon.home.root), 10, "the end of all daemons after `down`")
    await load.check()
    no_resets(load)
    world.count(commands=commands)


async def units(world: World) -> None:
    """The same behind systemd's socket unit: connections start the daemon, between `up`, `down`, `serve` and SIGKILL."""
    if reason := missing("user-manager"):
        raise Skipped(reason)
    person = world.folder / "person"
    person.mkdir()
    world.at_end(lambda: _end_all(world.folder / "home"))  # those that `up` started beside the unit, after the manager
    manager = await asyncio.to_thread(UserManager, world.folder / "home", person)
    world.at_end(manager.end)
    manager.starts(ROOT)
    daemon = world.daemon(environ=manager.names, cold=True)
    daemon.port, daemon.url = manager.port, f"http://127.0.0.1:{manager.port}"
    await asyncio.to_thread(manager.run, "service", "install")
    load = Load(world, daemon, http=1, socketio=0)
    for publisher in load.publishers:
        publisher.pause = 0.2  # what is to be seen is who starts whom: the processor is for that
    load.start()  # nobody has started a daemon: the first connection, or the first line in the spool, does
    await load.progress(60)
    watching = world.tasks.spawn(_watch_for_two(daemon), "watch")
    activated = _service_pid(manager) != 0
    for _ in range(world.pick(1, 30)):
        kinds = [world.dice.choice(("up", "down", "serve", "socket", "socket", "kill")) for _ in range(5)]
        outcomes = await asyncio.gather(*(_unit_command(world, daemon, manager, kind) for kind in kinds))
        for kind, (code, said) in zip(kinds, outcomes, strict=True):
            if "Traceback" in said or (kind == "down" and code != 0):
                raise Violation(f"`{kind}` failed: {said[-500:]}")
        if world.dice.random() < 0.5:
            await _up(daemon)
        else:  # behind the socket again: a daemon that `up` or `serve` started beside it gives the port back first
            assert (await asyncio.to_thread(daemon.run, "down")).returncode == 0
            await asyncio.to_thread(manager.asked, "start", SOCKET, PATH)
        if watching.done():
            watching.result()
        await load.progress(60)
        activated += _service_pid(manager) != 0
        world.count(commands=len(kinds))
    await load.finish()
    watching.cancel()
    assert (await asyncio.to_thread(daemon.run, "down")).returncode == 0
    await eventually(lambda: not _daemons_of(daemon.home.root), 60, "the end of all daemons after `down`")
    await load.check()
    no_resets(load)
    world.count(activated=activated)


def _service_pid(manager: UserManager) -> int:
    return int(manager.asked("show", "--property=MainPID", "--value", SERVICE))


async def _unit_command(world: World, daemon: DaemonUnderTest, manager: UserManager, kind: str) -> tuple[int, str]:
    await asyncio.sleep(world.dice.uniform(0.0, 0.4))
    if kind == "socket":  # refused while a daemon beside the unit has the port
        return 0, await asyncio.to_thread(manager.asked, "start", SOCKET)
    if kind == "kill":
        for pid in _daemons_of(daemon.home.root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                daemon.kills += 1
        return 0, ""
    return await _settled(world, daemon, kind)


async def _up(daemon: DaemonUnderTest) -> None:
    """`up` may give up waiting on a slow machine; whoever says it again must get there, and no other refusal is right."""
    said = ""
    for _ in range(4):
        done = await asyncio.to_thread(daemon.run, "up")
        if done.returncode == 0:
            return
        said = done.stderr[-500:]
        if "within" not in said:
            break
    raise Violation(f"`up` failed: {said}")


async def _command(world: World, daemon: DaemonUnderTest, kind: str) -> tuple[int, str]:
    await asyncio.sleep(world.dice.uniform(0.0, 0.4))
    return await _settled(world, daemon, kind)


async def _settled(world: World, daemon: DaemonUnderTest, kind: str) -> tuple[int, str]:
    if kind != "serve":
        done = await asyncio.to_thread(daemon.run, kind)
        return done.returncode, done.stderr
    said = world.folder / f"serve-{time.monotonic_ns()}.log"
    with said.open("wb") as output:
        process = world.process(
            [sys.executable, "-m", "claude_loop", "serve"], env=daemon.environ, cwd=ROOT, stdout=output, stderr=output
        )
    # It is refused, or serves until a `down` ends it; that it may still be about to do either is no outcome.
    await eventually(lambda: process.poll() is not None or "event=serving" in said.read_text(), 60, "`serve` settled")
    return process.poll() or 0, said.read_text()


async def _watch_for_two(daemon: DaemonUnderTest) -> None:
    """At no moment do two processes hold the home's log open for writing."""
    while True:
        holders = await asyncio.to_thread(_writers_of, daemon.home.database)
        if len(holders) > 1:
            raise Violation(f"two processes have the log open for writing: {holders}")
        await asyncio.sleep(0.1)


def _writers_of(file: Path) -> list[int]:
    return [pid for pid in _pids() if any(_writes(pid, number, file) for number in _numbers(f"/proc/{pid}/fd"))]


def _writes(pid: int, number: int, file: Path) -> bool:
    try:
        if os.readlink(f"/proc/{pid}/fd/{number}") != str(file):
            return False
        flags = next(line for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines() if "flags" in line)
    except OSError:
        return False  # it has just been closed
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _daemons_of(root: Path) -> list[int]:
    return [pid for pid in _processes_of(root) if b"serve" in _read(pid, "cmdline")]


def _processes_of(root: Path) -> list[int]:
    wanted = f"CLAUDE_LOOP_HOME={root}".encode()
    return [pid for pid in _pids() if wanted in _read(pid, "environ")]


def _read(pid: int, name: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []  # it has just ended


def _end_all(root: Path) -> None:
    """After a failure too: daemons, and commands that were about to start one."""
    while left := _processes_of(root):
        for pid in left:
            kill(pid)


def _pids() -> list[int]:
    return _numbers("/proc")


def _numbers(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdigit()]
    except OSError:
        return []

"""Session locks under fire: many processes acquire, give up, sweep, fork, are stopped and are killed.

Run as a script, this file is the hammer: ``DIRECTORY SECONDS NAMES VARIANT``. Whether two ever held one name is not
asked of the lock: each holder appends `enter`, `tick`… and `leave` to one file a name, and the kernel orders appended
lines. The tests read them afterwards.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from claude_loop import lock_files, session_lock
from claude_loop.session_lock import LockTimeout, SessionLock, cleanup_stale_locks, list_locks
from tests.support import ROOT, end_with

WORKERS = 8


# --- the hammer -------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, directory: Path, serial: int, names: int) -> None:
        self.directory, self.serial = directory, serial
        self.names = [f"name/{n}" for n in range(names)]
        self.random = random.Random(serial)
        self.entered = 0
        self.witnesses: dict[str, int] = {}

    def run(self) -> None:
        hammer = os.getppid()
        while os.getppid() == hammer and not (self.directory / "stop").exists():
            lock = SessionLock(self.random.choice(self.names), timeout=self.random.uniform(-0.001, 0.03))
            with suppress(LockTimeout):
                self.random.choices(
                    [self.waiting, self.trying, self.waiting_async, self.forking, self.sweeping, self.listing],
                    [50, 20, 12, 3, 10, 5],
                )[0](lock)

    def waiting(self, lock: SessionLock) -> None:
        with lock:
            self.hold(lock)

    def trying(self, lock: SessionLock) -> None:
        if lock.acquire(blocking=False):
            self.hold(lock)
            lock.release()

    def waiting_async(self, lock: SessionLock) -> None:
        async def wait() -> None:
            async with lock:
                self.hold(lock)

        asyncio.run(wait())

    def forking(self, lock: SessionLock) -> None:
        """A child must neither release its parent's lock nor keep it."""
        with lock:
            self.witness(lock, "enter")
            child = os.fork()
            if child == 0:
                lock.release()
                os._exit(lock.acquired)
            self.witness(lock, "tick")
            if os.waitpid(child, 0)[1] != 0:
                self.witness(lock, "child-believed-to-hold")
            self.witness(lock, "leave")

    def sweeping(self, _: SessionLock) -> None:
        cleanup_stale_locks(0)

    def listing(self, _: SessionLock) -> None:
        list_locks()

    def hold(self, lock: SessionLock) -> None:
        self.witness(lock, "enter")
        for _ in range(self.random.randrange(4)):
            time.sleep(self.random.choice([0, 0, 0.0005]))
            self.witness(lock, "tick")
        self.witness(lock, "leave")

    def witness(self, lock: SessionLock, what: str) -> None:
        if lock.lock_name not in self.witnesses:
            path = self.directory / f"{self.names.index(lock.lock_name)}.witness"
            self.witnesses[lock.lock_name] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.entered += what == "enter"
        os.write(self.witnesses[lock.lock_name], f"{self.serial} {self.entered} {what}\n".encode())


def break_locks(variant: str) -> None:
    """The classic mistakes, to show that the witness sees them."""
    if variant == "unlinks-after-unlocking":

        def withdraw(path: Path, descriptor: int) -> None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
            path.unlink(missing_ok=True)

        session_lock.withdraw = withdraw
    elif variant == "trusts-any-inode":
        lock_files._still_named = lambda path, descriptor: True


def hammer(directory: Path, seconds: float, names: int, variant: str) -> None:
    """Keep ``WORKERS`` running, stop and kill them at random, and print the serials of the killed."""
    SessionLock.LOCKS_DIR = directory / "locks"
    break_locks(variant)
    choose = random.Random(variant)
    running: dict[int, int] = {}
    killed: list[int] = []
    failed = serial = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(running) < WORKERS:
            serial += 1
            pid = os.fork()
            if pid == 0:
                end_with(Worker(directory, serial, names).run)
            running[pid] = serial
        time.sleep(choose.uniform(0, 0.03))
        pid = choose.choice(list(running))
        if choose.random() < 0.3:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(choose.uniform(0, 0.02))
            os.kill(pid, signal.SIGCONT)
        else:
            os.kill(pid, signal.SIGKILL)
            if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
                killed.append(running[pid])
            else:
                failed += 1
            del running[pid]
    (directory / "stop").touch()
    failed += sum(os.waitpid(pid, 0)[1] != 0 for pid in running)
    print(json.dumps({"killed": killed, "failed": failed}))


# --- the judge --------------------------------------------------------------------------------------------------


def overlaps(lines: list[str], killed: set[int]) -> list[str]:
    """Lines that cannot be, if at most one held the name at a time."""
    wrong: list[str] = []
    holder: tuple[str, str] | None = None
    for line in lines:
        worker, turn, what = line.split()
        if what == "enter":
            # Only the killed may go without saying so; and then nothing of them may follow.
            if holder is not None and int(holder[0]) not in killed:
                wrong.append(f"{line} while {holder}")
            holder = (worker, turn)
        elif holder != (worker, turn) or what not in ("tick", "leave"):
            wrong.append(f"{line} while {holder}")
        elif what == "leave":
            holder = None
    return wrong


class Outcome:
    def __init__(self, directory: Path, seconds: float, names: int, variant: str) -> None:
        directory.mkdir()
        command = [sys.executable, __file__, str(directory), str(seconds), str(names), variant]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.stderr = done.stderr
        self.report = json.loads(done.stdout)
        killed = set(self.report["killed"])
        self.kills = len(killed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        for path in directory.glob("*.witness"):
            lines = path.read_text().splitlines()
            self.counts.update(line.split()[2] for line in lines)
            self.wrong += overlaps(lines, killed)


def test_no_name_is_ever_held_twice(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path / "run", seconds=10, names=3, variant="right")
    print(outcome.counts, outcome.kills, "killed")
    assert outcome.wrong == []
    assert outcome.report["failed"] == 0, outcome.stderr
    assert outcome.counts["enter"] > 1_000
    assert outcome.kills > 50
    # Some of them died with a lock in their hands.
    assert outcome.counts["enter"] > outcome.counts["leave"]


@pytest.mark.parametrize("variant", ["unlinks-after-unlocking", "trusts-any-inode"])
def test_the_witness_sees_the_classic_mistakes(tmp_path: Path, variant: str) -> None:
    for attempt in range(10):
        outcome = Outcome(tmp_path / str(attempt), seconds=1, names=1, variant=variant)
        if outcome.wrong:
            return
    raise AssertionError(f"10 s of a lock that {variant} went unnoticed: {outcome.counts}")


if __name__ == "__main__":
    hammer(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

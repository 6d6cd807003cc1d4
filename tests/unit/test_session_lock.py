from __future__ import annotations

import asyncio
import doctest
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop import lock_files, session_lock
from claude_loop.errors import LockError, LockTimeout
from claude_loop.lock_files import lock_file_name
from claude_loop.session_lock import (
    SessionLock,
    cleanup_stale_locks,
    list_locks,
    session_locked,
    with_async_session_lock,
    with_session_lock,
)
from tests.support import PATIENCE, ROOT, end_with, unmeasured, until

HOLD = """
import sys, time
from claude_loop.session_lock import SessionLock
lock = SessionLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path / ".claude-loop" / "locks"
    for lock in list(session_lock._process.held):
        lock.release()


class Holder:
    """Another process that holds a lock until told to let go, or killed."""

    def __init__(self, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def release(self) -> None:
        if self.process.poll() is None:
            self.process.communicate(timeout=30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=30)


def as_if_killed(lock: SessionLock) -> None:
    """What the kernel does to a lock when its holder dies: close, without the unlocking that release adds."""
    with session_lock._process.guard:
        session_lock._process.held.discard(lock)
        lock._forget()


@pytest.fixture
def holder() -> Iterator[Holder]:
    holder = Holder("x")
    yield holder
    holder.kill()


# --- holding and letting go -------------------------------------------------------------------------------------


def test_the_file_is_there_while_the_lock_is_held_and_says_by_whom(folder: Path) -> None:
    with SessionLock("PRD-001") as lock:
        assert lock.lock_file == folder / "PRD-001.lock"
        metadata = json.loads(lock.lock_file.read_text())
        assert metadata.pop("acquired_at").endswith("Z")
        assert metadata == {"pid": os.getpid(), "host": os.uname().nodename, "lock_name": "PRD-001"}
        assert lock.lock_file.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not lock.lock_file.exists()
    assert not lock.acquired


def test_acquiring_what_one_holds_is_true_and_one_release_is_enough() -> None:
    lock = SessionLock("x")
    assert lock.acquire()
    assert lock.acquire()
    assert lock.acquire(blocking=False)
    lock.release()
    assert not lock.acquired
    assert SessionLock("x").acquire(blocking=False)


def test_releasing_what_is_not_held_does_nothing(holder: Holder) -> None:
    lock = SessionLock("x")
    lock.release()
    assert lock.lock_file.exists()
    assert not lock.acquire(blocking=False)


def test_nested_blocks_on_one_object_hold_until_the_outermost_ends() -> None:
    lock = SessionLock("x")
    with lock:
        with lock:
            pass
        assert lock.acquired
        assert not SessionLock("x").acquire(blocking=False)
    assert not lock.acquired


def test_a_block_releases_what_was_acquired_before_it() -> None:
    lock = SessionLock("x")
    lock.acquire()
    with lock:
        pass
    assert not lock.acquired


def test_an_exception_releases() -> None:
    with pytest.raises(ZeroDivisionError), SessionLock("x"):
        _ = 1 / 0
    assert SessionLock("x").acquire(blocking=False)


def test_two_objects_in_one_process_exclude_each_other() -> None:
    first, second = SessionLock("x"), SessionLock("x")
    assert first.acquire()
    assert not second.acquire(blocking=False)
    first.release()
    assert second.acquire(blocking=False)
    second.release()


def test_a_dropped_lock_stays_held() -> None:
    SessionLock("dropped").acquire()
    assert not SessionLock("dropped").acquire(blocking=False)


def test_a_change_of_directory_does_not_change_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = SessionLock("x")
    lock.acquire()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lock.release()
    assert not (tmp_path / ".claude-loop" / "locks" / "x.lock").exists()


def test_the_directory_comes_from_the_argument_the_class_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(".claude-loop/locks") == SessionLock.LOCKS_DIR
    monkeypatch.setenv("CLAUDE_LOOP_LOCKS_DIR", str(tmp_path / "environment"))
    assert SessionLock("x").lock_file == tmp_path / "environment" / "x.lock"
    with monkeypatch.context() as patch:
        patch.setattr(SessionLock, "LOCKS_DIR", tmp_path / "class")
        assert SessionLock("x").lock_file == tmp_path / "class" / "x.lock"
        assert SessionLock("x", locks_dir=tmp_path / "argument").lock_file == tmp_path / "argument" / "x.lock"
    assert SessionLock("x").lock_file == tmp_path / "environment" / "x.lock"


def test_fileno_is_for_the_holder() -> None:
    with SessionLock("x") as lock:
        assert os.fstat(lock.fileno()).st_ino == lock.lock_file.stat().st_ino
        assert not os.get_inheritable(lock.fileno())
    with pytest.raises(LockError, match="“x” is not held"):
        lock.fileno()


# --- waiting ----------------------------------------------------------------------------------------------------


def test_the_timeout_names_the_holder(holder: Holder) -> None:
    start = time.monotonic()
    with pytest.raises(LockTimeout, match=rf"“x” is held by pid {holder.pid} on .* since .*Z; waited \d+\.\d s"):
        SessionLock("x", timeout=0.2).acquire()
    assert 0.2 <= time.monotonic() - start < 10
    assert LockTimeout.code == "lock_timeout"
    assert issubclass(LockTimeout, LockError)


@pytest.mark.parametrize("timeout", [0, -1, -float("inf")])
def test_no_time_is_one_try(holder: Holder, timeout: float) -> None:
    with pytest.raises(LockTimeout):
        SessionLock("x", timeout=timeout).acquire()
    assert SessionLock("free", timeout=timeout).acquire()


@pytest.mark.parametrize("timeout", [None, float("inf"), 300])
def test_a_waiter_gets_the_lock_when_it_is_released(holder: Holder, timeout: float | None) -> None:
    lock = SessionLock("x", timeout=timeout)
    assert not lock.acquire(blocking=False)
    releasing = threading.Timer(0.1, holder.release)
    releasing.start()
    assert lock.acquire()
    assert [info.pid for info in list_locks()] == [os.getpid()]
    lock.release()
    releasing.join()


def test_a_timeout_that_is_no_number_is_refused() -> None:
    with pytest.raises(LockError, match="number of seconds"):
        SessionLock("x", timeout=float("nan"))


async def test_waiting_asynchronously_leaves_the_loop_free(holder: Holder) -> None:
    beats = 0

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.get_running_loop().create_task(heartbeat())
    with pytest.raises(LockTimeout):
        async with SessionLock("x", timeout=0.3):
            pass
    beating.cancel()
    # A wait that blocks lets none through.
    assert beats > 3


async def test_a_cancelled_wait_leaves_nothing_held(holder: Holder) -> None:
    lock = SessionLock("x")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lock.__aenter__(), 0.05)
    holder.release()
    assert not lock.acquired
    assert SessionLock("x").acquire(blocking=False)


async def test_tasks_exclude_each_other() -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with with_async_session_lock("x"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))


def test_threads_exclude_each_other() -> None:
    counter = {"n": 0}

    def work() -> None:
        for _ in range(25):
            with with_session_lock("x"):
                n = counter["n"]
                time.sleep(0.0001)
                counter["n"] = n + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter["n"] == 100
    assert list_locks() == []


def test_threads_that_share_one_object_acquire_once() -> None:
    lock = SessionLock("x")
    ready = threading.Barrier(4)
    before = len(os.listdir("/dev/fd"))

    def work() -> None:
        ready.wait()
        assert lock.acquire()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(os.listdir("/dev/fd")) == before + 1
    lock.release()


# --- the decorator ----------------------------------------------------------------------------------------------


def test_the_decorator_holds_the_lock_during_the_call() -> None:
    @session_locked("x", timeout=1)
    def work(a: int, *, b: int) -> int:
        """Adds."""
        assert [info.state for info in list_locks()] == ["held"]
        return a + b

    assert work(1, b=2) == 3
    assert (work.__name__, work.__doc__) == ("work", "Adds.")
    assert list_locks() == []


async def test_the_decorator_awaits_what_is_async() -> None:
    @session_locked("x")
    async def work() -> str:
        await asyncio.sleep(0)
        return list_locks()[0].state

    assert await work() == "held"
    assert list_locks() == []


def test_the_decorator_refuses_generators() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(LockError, match="generator"):
        session_locked("x")(numbers)


# --- death, forks and children ----------------------------------------------------------------------------------


def test_a_killed_holder_leaves_a_stale_file_that_blocks_nobody(holder: Holder) -> None:
    inode = (SessionLock("x").lock_file).stat().st_ino
    holder.kill()
    assert [(info.state, info.pid) for info in list_locks()] == [("stale", holder.pid)]
    with SessionLock("x", timeout=0) as lock:
        assert lock.lock_file.stat().st_ino == inode
        assert [(info.state, info.pid) for info in list_locks()] == [("held", os.getpid())]


def in_child(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        end_with(work)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_neither_holds_nor_releases() -> None:
    lock = SessionLock("x")

    def child() -> None:
        assert not lock.acquired
        lock.__exit__(None, None, None)
        lock.release()
        assert not lock.acquire(blocking=False)

    with lock:
        assert in_child(child) == 0
        assert lock.acquired
        assert not SessionLock("x").acquire(blocking=False)
    assert in_child(lambda: SessionLock("x", timeout=0).acquire()) == 0


def test_a_forked_child_that_outlives_a_killed_holder_keeps_nothing() -> None:
    script = """
import os, signal, sys
from claude_loop.session_lock import SessionLock
SessionLock("x").acquire()
if os.fork() == 0:
    sys.stdin.read()
else:
    print(flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.wait(30) == -signal.SIGKILL
        # The child lives: it has the other end of our pipe, and waits for us to close ours. It may not have run yet.
        assert SessionLock("x", timeout=10).acquire()
        parent.communicate()


def test_multiprocessing_by_fork_excludes() -> None:
    context = multiprocessing.get_context("fork")
    lock = SessionLock("x")
    with lock:
        worker = context.Process(target=lambda: sys.exit(lock.acquired or SessionLock("x").acquire(blocking=False)))
        worker.start()
        worker.join(30)
        assert worker.exitcode == 0


def test_forks_in_other_threads_do_not_keep_a_released_or_killed_lock(folder: Path) -> None:
    """Fork at any moment of another thread's acquire: no surviving child may hold the kernel's lock."""
    stop = threading.Event()
    children = []

    def forking() -> None:
        while not stop.is_set() and len(children) < 60:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)

    thread = threading.Thread(target=forking)
    thread.start()
    try:
        while thread.is_alive():
            # A child that has not yet run its first instruction still has the copy: give it a moment.
            lock = SessionLock("x", timeout=20)
            lock.acquire()
            as_if_killed(lock)
    finally:
        stop.set()
        thread.join()
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_a_started_program_does_not_inherit_the_lock() -> None:
    lock = SessionLock("x")
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as program:
        as_if_killed(lock)
        assert SessionLock("x", timeout=0).acquire()
        program.communicate()


def test_a_program_that_is_given_the_descriptor_keeps_the_name_locked() -> None:
    lock = SessionLock("x")
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as program:
        as_if_killed(lock)
        assert not SessionLock("x").acquire(blocking=False)
        program.communicate()
    assert SessionLock("x", timeout=0).acquire()


def test_releasing_unlocks_even_while_a_program_has_the_descriptor() -> None:
    lock = SessionLock("x")
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as program:
        lock.release()
        assert SessionLock("x", timeout=0).acquire()
        program.communicate()


@pytest.mark.requires("root")
def test_releasing_unlocks_even_a_file_that_cannot_be_removed() -> None:
    def as_nobody() -> None:
        os.setresuid(65534, 65534, 65534)
        directory = Path(open_to_all, "nobody")
        directory.mkdir()
        lock = SessionLock("x", locks_dir=directory)
        lock.acquire()
        directory.chmod(0o500)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()]) as program:
            lock.release()
            assert [info.state for info in list_locks(directory)] == ["stale"]
            assert SessionLock("x", timeout=0, locks_dir=directory).acquire()
            program.communicate()

    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        os.chmod(open_to_all, 0o777)
        assert in_child(as_nobody) == 0


def test_tries_and_releases_leave_nothing_open() -> None:
    before = os.listdir("/dev/fd")
    with SessionLock("x"):
        for _ in range(20):
            assert not SessionLock("x").acquire(blocking=False)
    assert os.listdir("/dev/fd") == before
    assert session_lock._process.held == set()


# --- the classic race, step by step -----------------------------------------------------------------------------


def test_a_file_that_was_unlinked_between_opening_and_locking_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = SessionLock("x"), SessionLock("x")
    first.acquire()
    real_lock = lock_files._lock
    opened = []

    def release_first_then_lock(descriptor: int) -> bool:
        opened.append(os.fstat(descriptor).st_ino)
        if len(opened) == 1:
            first.release()
        return real_lock(descriptor)

    monkeypatch.setattr(lock_files, "_lock", release_first_then_lock)
    assert second.acquire(blocking=False)
    assert len(opened) == 2
    assert os.fstat(second.fileno()).st_ino == second.lock_file.stat().st_ino
    second.release()


def test_release_does_not_unlink_a_file_that_is_not_its_own() -> None:
    first = SessionLock("x")
    first.acquire()
    first.lock_file.unlink()  # by hand
    second = SessionLock("x")
    assert second.acquire(blocking=False)
    first.release()
    assert second.lock_file.exists()
    assert not SessionLock("x").acquire(blocking=False)
    second.release()


def test_the_content_is_untouched_until_the_lock_is_held(holder: Holder) -> None:
    lock = SessionLock("x", timeout=0.05)
    before = lock.lock_file.read_bytes()
    with pytest.raises(LockTimeout):
        lock.acquire()
    assert lock.lock_file.read_bytes() == before


def test_a_shorter_description_leaves_nothing_of_the_longer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "x.lock").write_text("x" * 5000)
    with SessionLock("x") as lock:
        assert json.loads(lock.lock_file.read_text())["lock_name"] == "x"


def test_the_directory_may_vanish_between_two_locks(folder: Path) -> None:
    with SessionLock("x"):
        pass
    folder.rmdir()
    with SessionLock("x"):
        pass


# --- what cannot be used ----------------------------------------------------------------------------------------


def test_a_planted_link_is_refused_and_its_target_untouched(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("precious")
    (folder / "x.lock").symlink_to(target)
    (folder / "y.lock").symlink_to(tmp_path / "not-there")
    for name in "xy":
        with pytest.raises(LockError, match="symbolic link") as refused:
            SessionLock(name, timeout=60).acquire()
        assert refused.value.code == "lock_failed"
    assert cleanup_stale_locks(0) == 0
    assert [(info.name, info.state, info.reason) for info in list_locks()] == [
        ("x", "unknown", "it is a symbolic link"),
        ("y", "unknown", "it is a symbolic link"),
    ]
    assert target.read_text() == "precious"
    assert not (tmp_path / "not-there").exists()


def test_what_is_no_regular_file_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.lock")
    (folder / "directory.lock").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(LockError, match="cannot be used for a lock"):
            SessionLock(name, timeout=60).acquire()
    assert cleanup_stale_locks(0) == 0
    assert [(info.name, info.state, info.reason) for info in list_locks()] == [
        ("directory", "unknown", "it is not a regular file"),
        ("pipe", "unknown", "it is not a regular file"),
    ]


def test_a_held_file_with_strange_content_is_held(folder: Path) -> None:
    with SessionLock("x") as lock:
        lock.lock_file.write_text("not json")
        (info,) = list_locks()
        assert (info.name, info.state, info.pid) == ("x", "held", None)
        assert info.reason == "its content is not a lock's"


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LockError, match="Not a directory"):
        SessionLock("x", locks_dir=tmp_path / "file" / "locks").acquire()
    with pytest.raises(LockError, match="Not a directory"):
        list_locks(tmp_path / "file")


def test_running_out_of_descriptors_is_an_error_and_leaks_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/dev/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, hard))
    locks = [SessionLock(str(n)) for n in range(highest + 10)]
    try:
        with pytest.raises(LockError, match="Too many open files"):
            deque((lock.acquire() for lock in locks), maxlen=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for lock in locks:
            lock.release()
    assert list_locks() == []


def test_without_room_for_the_description_the_lock_still_holds(folder: Path) -> None:
    """A size limit of nothing stands for a full disk: the file can be made, but not written."""
    script = """
import resource, signal, sys
from claude_loop.session_lock import SessionLock, list_locks
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with SessionLock("x"):
    assert not SessionLock("x").acquire(blocking=False)
    (info,) = list_locks()
    assert (info.name, info.state, info.pid) == ("x", "held", None), info
"""
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=PATIENCE
    )
    assert list(folder.iterdir()) == []


# --- looking and sweeping ---------------------------------------------------------------------------------------


def test_sweeping_takes_old_files_that_nobody_holds(holder: Holder, folder: Path) -> None:
    for name, age in (("old", 7200), ("young", 60)):
        Holder(name).kill()
        moment = time.time() - age
        os.utime(folder / f"{name}.lock", (moment, moment))
    os.utime(folder / "x.lock", (1, 1))
    (folder / "empty.lock").touch()  # a kill between making and describing it
    assert cleanup_stale_locks() == 1
    assert sorted(path.name for path in folder.iterdir()) == ["empty.lock", "x.lock", "young.lock"]
    assert cleanup_stale_locks(0) == 2
    assert [path.name for path in folder.iterdir()] == ["x.lock"]


def test_files_of_others_that_are_called_lock_are_left_alone(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "uv.lock").write_text('version = 1\n[[package]]\nname = "x"\n')
    (folder / "package.lock").write_text('{"lockfileVersion": 3}')
    (folder / "deep.lock").write_text("[" * 100_000)
    (folder / "notes.txt").write_text("")
    assert cleanup_stale_locks(-1) == 0
    assert list_locks() == []
    assert len(list(folder.iterdir())) == 4


def test_sweeping_a_missing_directory_finds_nothing() -> None:
    assert cleanup_stale_locks(0) == 0
    assert list_locks() == []


def test_looking_never_makes_a_try_fail() -> None:
    """`locks` in a loop must not make `lock --no-wait` say that somebody holds what nobody holds."""
    Holder("x").kill()
    stop = threading.Event()

    def looking() -> None:
        while not stop.is_set():
            list_locks()

    threads = [threading.Thread(target=looking) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            lock = SessionLock("x")
            assert lock.acquire(blocking=False)
            as_if_killed(lock)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("seconds", [0.002, 0.2])
def test_a_look_in_progress_is_no_holder(folder: Path, seconds: float) -> None:
    """On a busy machine whoever looks may be kept from going on."""
    Holder("x").kill()
    descriptor = os.open(folder / "x.lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(seconds, os.close, [descriptor]).start()
    assert SessionLock("x").acquire(blocking=False)


def test_what_a_file_claims_is_checked(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "x.lock").write_text(
        json.dumps({"pid": "1; rm", "host": ["h"], "acquired_at": 5, "lock_name": "another"})
    )
    (info,) = list_locks()
    assert info == ("x", "stale", None, None, None, folder / "x.lock", None)


@pytest.mark.requires("root")
def test_the_lock_of_another_user_is_unknown() -> None:
    def as_nobody() -> None:
        os.setresuid(65534, 65534, 65534)
        (info,) = list_locks(open_to_all)
        assert (info.name, info.state, info.reason) == ("x", "unknown", "Permission denied")
        assert cleanup_stale_locks(0, locks_dir=open_to_all) == 0
        with pytest.raises(LockError, match="Permission denied"):
            SessionLock("x", locks_dir=open_to_all).acquire()

    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
        os.chmod(open_to_all, 0o777)
        with SessionLock("x", locks_dir=open_to_all):
            assert in_child(as_nobody) == 0


# --- names ------------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(), max_size=300)


@given(ANY_TEXT)
def test_every_name_is_a_file_of_the_directory(name: str) -> None:
    file_name = lock_file_name(name)
    assert len(file_name.encode()) <= 255
    assert file_name.endswith(".lock")
    assert not file_name.startswith(("-", "."))
    assert set(file_name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-%")
    if len(name.encode("utf-8", "surrogatepass")) <= 66:
        assert lock_files._name_of(Path(file_name), {}) == name


@given(ANY_TEXT, ANY_TEXT)
def test_different_names_are_different_files(one: str, other: str) -> None:
    assert (lock_file_name(one) == lock_file_name(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../etc/passwd", "/abs", "a/b", "a\0b", "-rf", "é", "\udcff", "a" * 9999]
)
def test_strange_names_are_locks_like_any_other(folder: Path, name: str) -> None:
    with SessionLock(name):
        assert not SessionLock(name).acquire(blocking=False)
        assert [info.name for info in list_locks()] == [name]
        assert [path.parent for path in folder.iterdir()] == [folder]
    assert list(folder.iterdir()) == []


def test_long_names_that_begin_alike_are_different_locks() -> None:
    with SessionLock("a" * 1000 + "1"):
        assert SessionLock("a" * 1000 + "2", timeout=0).acquire()


# --- the module -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [session_lock, lock_files])
def test_the_examples_run(module: object) -> None:
    results = doctest.testmod(module)  # type: ignore[arg-type]
    assert results.attempted > 0
    assert results.failed == 0


def test_the_examples_of_the_documentation_run() -> None:
    results = doctest.testfile(str(ROOT / "docs" / "locks.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


def test_it_is_importable_without_the_rest() -> None:
    script = """
import sys
import claude_loop.session_lock
ours = {name for name in sys.modules if name.startswith("claude_loop")}
assert ours == {"claude_loop", "claude_loop.errors", "claude_loop.lock_files", "claude_loop.session_lock"}, ours
heavy = {"asyncio", "pydantic", "structlog", "orjson", "filelock", "click", "subprocess", "socket"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**unmeasured(), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=PATIENCE)


def test_cleanup_from_the_shell(folder: Path) -> None:
    Holder("a").kill()
    Holder("b").kill()
    command = [sys.executable, "-m", "claude_loop.session_lock", "cleanup"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outputs = [
        subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout
        for arguments in ([], ["--max-age", "0"])
    ]
    assert outputs == ["removed 0 stale lock files\n", "removed 2 stale lock files\n"]
    assert until(lambda: not list(folder.iterdir()))

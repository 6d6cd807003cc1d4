"""The nursery, from which the daemons of the end-to-end tests are forked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import end_daemon_of
from tests.nursery import Adopted, Nurse, take_over
from tests.support import alive, end_with, until


@pytest.fixture
def own_nurse() -> Iterator[Nurse]:
    with Nurse() as nurse:
        yield nurse


def sleeper(nurse: Nurse, folder: Path) -> Adopted:
    """`claude-loop lock` of a command that stays for as long as the process from the nursery does."""
    command = "while kill -0 $PPID 2>/dev/null; do sleep 0.1; done"
    return nurse.start(["lock", "nursery", "--", "sh", "-c", command], dict(os.environ), folder / "log")


def test_what_was_started_ends_with_the_nursery(tmp_path: Path) -> None:
    with Nurse() as nurse:
        pid = sleeper(nurse, tmp_path).pid
        assert alive(pid)
    until(lambda: not alive(pid))


def test_an_interrupt_from_the_terminal_is_not_for_the_nursery(own_nurse: Nurse, tmp_path: Path) -> None:
    assert os.getsid(sleeper(own_nurse, tmp_path).pid) != os.getsid(0)


def test_threads_that_ask_for_one_process_are_told_the_same(own_nurse: Nurse, tmp_path: Path) -> None:
    for _ in range(5):
        one = own_nurse.start(["--version"], dict(os.environ), tmp_path / "log")
        twins = [Adopted(own_nurse, one.pid) for _ in range(8)]
        with ThreadPoolExecutor(len(twins)) as pool:
            assert list(pool.map(Adopted.wait, twins)) == [0] * len(twins)
            assert {own_nurse.status(one.pid) for _ in range(3)} == {0}


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(own_nurse: Nurse, tmp_path: Path) -> None:
    one = sleeper(own_nurse, tmp_path)

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        for microseconds in range(20, 1_000, 7):
            with contextlib.suppress(TimeoutError):
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                while own_nurse.status(one.pid) is None:
                    pass
            other = own_nurse.start(["--version"], dict(os.environ), tmp_path / "log") if microseconds < 50 else one
            assert other.pid > 1
            assert own_nurse.status(one.pid) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    one.kill()
    assert one.wait() == -signal.SIGKILL


def test_a_daemon_that_a_test_forgets_is_ended_though_its_environment_is_the_nurserys(
    own_nurse: Nurse, tmp_path: Path, port: int
) -> None:
    home = Path(os.environ["CLAUDE_LOOP_HOME"])
    daemon = own_nurse.start(["serve", "--port", str(port)], dict(os.environ), tmp_path / "log")
    until((home / "daemon.json").exists)
    end_daemon_of(home)
    assert not alive(daemon.pid)


def test_a_process_has_its_own_time_zone(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        end_with(lambda: _has_zone(tmp_path / "log"))
    assert os.waitpid(pid, 0)[1] == 0, (tmp_path / "log").read_text()


def _has_zone(log: Path) -> None:
    take_over({"TZ": "XYZ-02:15"}, str(log))
    told = time.localtime(0)
    assert (told.tm_hour, told.tm_min) == (2, 15), told

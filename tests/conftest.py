"""Shared fixtures, and the rule for skips: each has a reason, all are listed at the end, and none is allowed
when ``CLAUDE_LOOP_TEST_REQUIRE=all``."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.order import by_file
from tests.requirements import REQUIREMENTS, missing
from tests.support import free_port, kill, parent

ALL_REQUIRED = os.environ.get("CLAUDE_LOOP_TEST_REQUIRE") == "all"
# Enough to see within minutes what a change has broken; a search for what is still hidden asks for more.
EXAMPLES = int(os.environ.get("CLAUDE_LOOP_TEST_EXAMPLES", "40"))
# Slow draws on a busy machine are no defect; a test that hangs has its time limit.
settings.register_profile(
    "claude-loop", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("claude-loop")

SKIPS = pytest.StashKey[dict[str, list[str]]]()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, which this process and its children use; it does not exist yet.

    Applies to every test, so that none touches the state of whoever runs them. Its path is short: the
    address of a Unix socket has room for 107 bytes, and pytest's ``tmp_path`` alone may take them.
    """
    folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    for name in [name for name in os.environ if name.startswith("CLAUDE_LOOP_")]:
        if not name.startswith("CLAUDE_LOOP_TEST_"):
            monkeypatch.delenv(name)
    state = folder / "home"
    monkeypatch.setenv("CLAUDE_LOOP_HOME", str(state))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    yield state
    end_daemon_of(state)
    shutil.rmtree(folder, ignore_errors=True)


def end_daemon_of(state: Path) -> None:
    """End a daemon that the test left running, but only if it provably is the one of this directory."""
    try:
        pid = json.loads((state / "daemon.json").read_text())["pid"]
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError, TypeError):
        return
    # One from the nursery has the nursery's environment, and the nursery is a child of ours.
    ours = f"CLAUDE_LOOP_HOME={state}".encode() in environment or parent(parent(pid)) == os.getpid()
    if pid != os.getpid() and ours:
        kill(pid)


@pytest.fixture
def port() -> int:
    """A free port on 127.0.0.1."""
    return free_port()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*names): skipped where one of tests/requirements.py is missing")
    config.stash[SKIPS] = skips = defaultdict(list)
    config.pluginmanager.register(SkipList(skips), "skip list")
    _spare_children_ignored_signals()


def _spare_children_ignored_signals() -> None:
    """What a background script or ``nohup`` ignores is ignored in all that it starts: no process under test would end by it.
    A handler that does nothing ignores the signal here alone."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_finish() -> None:
    """What has been collected stays to the end: no collection of garbage need look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("requires"):
            unknown = set(marker.args) - set(REQUIREMENTS)
            if unknown:
                raise pytest.UsageError(f"{item.nodeid} requires {sorted(unknown)}: not in tests/requirements.py")
    if hasattr(config, "workerinput"):  # one of several processes
        items[:] = by_file(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    names = {name for marker in item.iter_markers("requires") for name in marker.args}
    reasons = [reason for name in sorted(names) if (reason := missing(name))]
    if reasons:
        pytest.skip("; ".join(reasons))


# Outermost, so that what pytest itself makes of an expected failure is known here.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _forbid(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    if report.skipped:
        _forbid(report)
    return report


def _forbid(report: Any) -> None:
    if ALL_REQUIRED:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and CLAUDE_LOOP_TEST_REQUIRE=all forbids it: {_reason(report)}"


def _reason(report: Any) -> str:
    return str(report.longrepr[2]).removeprefix("Skipped: ")


class SkipList:
    """Notes skips where all reports arrive: in the process that was started, whatever processes run the tests."""

    def __init__(self, skips: dict[str, list[str]]) -> None:
        self._skips = skips

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skips[_reason(report)].append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.skipped:
            self._skips[_reason(report)].append(report.nodeid)


# Last of all, after pytest's closing line: the list is what the person who ran the tests has to act on.
@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    skips = config.stash.get(SKIPS, {})
    if not skips:
        return
    print("\nNot run:")
    for reason, tests in sorted(skips.items()):
        print(f"- {reason}")
        for test in tests:
            print(f"    {test}")

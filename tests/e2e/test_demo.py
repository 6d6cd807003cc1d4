"""`demo`, run for real in an environment with nothing in it: no terminal, no git identity, no daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.daemon import without_waiting
from tests.e2e.monitor import FLAGS
from tests.requirements import find_chromium, missing
from tests.support import PATIENCE, ROOT, until

# What the demo promises; a test machine may be busy with others.
LONGEST_SECONDS = 60


class Person:
    """Somebody with a HOME and a PATH, and no more."""

    def __init__(self, home: Path) -> None:
        self.state = home / ".local" / "state" / "claude-loop"
        self.environ = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(home),
            # The person's clone brings its own interpreter, and the default port may be somebody's.
            "PYTHONPATH": str(ROOT),
            "CLAUDE_LOOP_PORT": "0",
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "claude_loop", *arguments],
            env=self.environ | environ,
            cwd=self.environ["HOME"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=2 * LONGEST_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, without_waiting(err))

    def processes(self) -> list[str]:
        """The command lines of everything that runs on this state directory, but the daemon."""
        mark = f"CLAUDE_LOOP_HOME={self.state}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # it has ended
        return [line for line in found if line and not line.endswith(" serve ")]


@pytest.fixture
def person() -> Iterator[Person]:
    home = Path(tempfile.mkdtemp(prefix="cl-demo-", dir="/tmp"))
    someone = Person(home)
    yield someone
    someone.run("down")
    shutil.rmtree(home)


def git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3 * LONGEST_SECONDS)
def test_a_real_loop_is_shown_live(person) -> None:
    begun = time.monotonic()
    demo = person.run("demo")
    assert time.monotonic() - begun < LONGEST_SECONDS
    assert (demo.returncode, demo.stderr) == (0, "")
    lines = [line[9:] for line in demo.stdout.splitlines() if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert lines[0] == "demo/DEMO-1         ▶ started, 3 stories"
    assert re.fullmatch(r"demo/DEMO-1         ■ done, verified · 3 stories · \d+s", lines[-1])
    # One attempt fails, the next passes; then something is waited for.
    told = "\n".join(lines)
    steps = [
        r"US-001  ✓ tests 2 passed",
        r"US-001  ✓ done, verified",
        r"US-002  ✗ tests 3 passed 2 failed: test_never_below_zero, test_rounding",
        r"US-002  ✓ tests 5 passed",
        r"US-002  ✓ done, verified · \d+s · 2 attempts",
        r"⏸ waiting for the rate limit: usage limit reached, until \d\d:\d\d:\d\d",
        r"▶ goes on",
        r"US-003  ✓ tests 7 passed",
        r"US-003  ✓ done, verified",
    ]
    places = [re.search(step, told) for step in steps]
    assert None not in places, told
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)

    # The figures are those of the repository.
    repository = next(Path(person.environ["TMPDIR"]).glob("claude-loop-demo-*"))
    hashes = git(repository, "log", "--reverse", "--format=%h").split()
    assert re.findall(r"● commit (\S+)", told) == hashes
    assert len(hashes) == 3
    assert set(git(repository, "log", "--format=%an <%ae>").splitlines()) == {"PRD loop <loop@example.invalid>"}
    tests = [sys.executable, "-m", "unittest"]
    checked = subprocess.run(tests, cwd=repository, capture_output=True, text=True, timeout=30, check=True)
    assert "Ran 7 tests" in checked.stderr

    # It says where to look, how to report from a script, how to stop; and each of these works.
    ending = demo.stdout.partition("That was a real loop.")[2]
    assert f"source {ROOT / 'bin' / 'emit_progress.sh'}" in ending
    assert ending.rstrip().endswith("claude-loop down")
    assert "show DEMO-1" in ending
    assert person.run("status").returncode == 0
    shown = person.run("show", "DEMO-1").stdout
    assert shown.startswith("✓ demo/DEMO-1  done, verified · ")
    assert shown.count("  ✓ US-00") == 3
    assert person.processes() == []
    assert " open " in ending
    find_the_failing_test(person.run("open", "--print-url").stdout.strip())


def find_the_failing_test(address: str) -> None:
    """As who has read nothing: by what can be seen and clicked, which test failed in which story."""
    if missing("chromium") or missing("page"):
        return  # the tests of the monitor, which need them, say so
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find_chromium()), args=list(FLAGS))
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("link", name="DEMO-1").click()
        story = page.get_by_role("row", name="US-002")
        expect(story.get_by_role("cell").nth(1)).to_have_text("2")  # attempts
        lane = page.get_by_role("region", name="Timeline").locator("g[data-story=US-002]")
        attempts = [re.compile("attempt 1: started again without a result"), re.compile("attempt 2: completed")]
        expect(lane.locator("rect.bar title")).to_have_text(attempts)
        lane.locator("[data-seq]", has_text="2 ✗").click()
        expect(page.locator("li.selected")).to_contain_text("3 passed 2 failed: test_never_below_zero, test_rounding")
        browser.close()


HOSTILE = {
    # Somebody's hook, whose git variables lead to another repository.
    "GIT_DIR": "/nowhere/.git",
    "GIT_WORK_TREE": "/nowhere",
    # Somebody's loop, whose names would be inherited.
    "CLAUDE_LOOP_DISABLE": "1",
    "CLAUDE_LOOP_PRD": "OTHER",
    "CLAUDE_LOOP_PROJECT": "other",
    "CLAUDE_LOOP_STORY": "US-999",
    "CLAUDE_LOOP_RUN": "other-run",
    "CDPATH": "/tmp:/",
    "BASH_ENV": "/nowhere/bashrc",
}


@pytest.mark.slow
@pytest.mark.timeout(3 * LONGEST_SECONDS)
def test_it_can_be_repeated_wherever_one_stands(person) -> None:
    home = Path(person.environ["HOME"])
    (home / ".gitconfig").write_text(
        '[core]\n hooksPath = /nowhere\n[commit]\n gpgsign = true\n template = "/nowhere"\n'
    )
    for number in (1, 2):
        demo = person.run("demo", PAUSE="0", **HOSTILE)
        assert (demo.returncode, demo.stderr) == (0, "")
        assert "■ done, verified · 3 stories" in demo.stdout
        assert "OTHER" not in demo.stdout
        runs = json.loads(person.run("show", "DEMO-1", "--json").stdout)["runs"]
        assert [run["state"] for run in runs] == ["done·verified"] * number


@pytest.mark.requires("linux")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_behind_but_the_daemon(person, number, status) -> None:
    with person.start("demo", PAUSE="100") as demo:
        line = demo.stdout.readline()
        while "▷ started" not in line:
            assert line, demo.stderr.read()
            line = demo.stdout.readline()
        assert any("prd_loop.sh" in process for process in person.processes())
        demo.send_signal(number)
        assert demo.wait(PATIENCE) == status
        assert "Traceback" not in demo.stderr.read()
    until(lambda: person.processes() == [])
    until(lambda: "✗ demo/DEMO-1  failed" in person.run("prds").stdout)


def test_a_port_that_is_taken(person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        demo = person.run("demo", CLAUDE_LOOP_PORT=str(taken.getsockname()[1]))
    assert (demo.returncode, demo.stdout) == (3, "")
    assert "is taken" in demo.stderr
    assert "choose another port with CLAUDE_LOOP_PORT" in demo.stderr


def test_what_it_needs_and_does_not_find_is_named(person, tmp_path) -> None:
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    demo = person.run("demo", PATH=str(tmp_path))
    assert (demo.returncode, demo.stdout) == (1, "")
    assert demo.stderr.startswith("claude-loop: The demo needs git, which is not installed.")


def test_a_loop_that_fails_is_told_and_not_made_up(person, tmp_path) -> None:
    """A `git` that cannot commit."""
    fake = tmp_path / "git"
    fake.write_text(
        f'#!/bin/sh\ncase "$1" in commit) echo "no space left" >&2; exit 1 ;; esac\nexec {shutil.which("git")} "$@"\n'
    )
    fake.chmod(0o755)
    demo = person.run("demo", PAUSE="0", PATH=f"{tmp_path}:{person.environ['PATH']}")
    assert demo.returncode == 1
    assert "the demo's loop failed" in demo.stderr
    assert "no space left" in demo.stderr
    assert "■ finished without success" in demo.stdout
    assert "verified" not in demo.stdout

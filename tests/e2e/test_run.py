"""`claude-loop run` with real daemons that are killed and restarted, and loops that were not written for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.support import alive, until

pytestmark = pytest.mark.requires("linux")

# The shape of ralph.sh: a loop around an agent, here a stand-in, whose words it shows and looks into.
RALPH = """#!/bin/bash
set -e
for i in $(seq 1 "$1"); do
  echo "==============================================================="
  echo "  Ralph Iteration $i of $1 (claude)"
  echo "==============================================================="
  OUTPUT=$(claude --dangerously-skip-permissions --print < prompt.md 2>&1 | tee /dev/stderr) || true
  if echo "$OUTPUT" | grep -q "<promise>COMPLETE</promise>"; then
    echo "Ralph completed all tasks!"
    exit 0
  fi
done
exit 1
"""
CLAUDE = """#!/bin/bash
cat > /dev/null
for n in $(seq 1 100); do printf '\\033[32mworking\\033[0m %s %s on %s\\n' "$$" "$n" "$CLAUDE_LOOP_RUN"; sleep 0.01; done
echo 'token ghp_abcdefghijklmnopqrstuvwxyz0123456789'
[[ $(cat count 2>/dev/null) == xx ]] && until [[ -e go ]]; do echo 'still working'; sleep 0.02; done
[[ $(cat count 2>/dev/null) == xx ]] && echo '<promise>COMPLETE</promise>'
printf x >> count
"""


class Loop:
    """A daemon, and a folder in which loops run."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.daemon = Daemon(home)
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in {"ralph.sh": RALPH, "bin/claude": CLAUDE, "prompt.md": "Do one story.\n"}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        environ = self.daemon.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "CLAUDE_LOOP_AUTOSTART": "0",
        }
        line = [sys.executable, "-m", "claude_loop", "run", "--prd", "P1", "--", *command]
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        return subprocess.Popen(line, env=environ | given.pop("env", {}), cwd=self.folder, **given)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.daemon.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def events(self, type_: str) -> list[dict[str, Any]]:
        return self.get(f"/api/events?type={type_}&limit=1000")["events"]

    def card(self) -> dict[str, Any]:
        return next(iter(self.get("/api/prds")["prds"]), {})

    @property
    def run_id(self) -> str:
        (directory,) = (self.daemon.home.root / "runs").iterdir()
        return directory.name

    def text(self) -> str:
        chunks, cursor, more = [], "", True
        while more:
            page = self.get(f"/api/runs/{self.run_id}/output?limit=500{cursor}")
            chunks += page["chunks"]
            cursor, more = f"&after={page['cursor']}", page["more"]
        place = 0
        for chunk in chunks:
            assert chunk["offset"] == place, "a gap, or the same twice"
            place += chunk["bytes"]
        return "".join(chunk["text"] for chunk in chunks)


@pytest.fixture
def loop(home: Path, tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(home, tmp_path)
    yield loop
    if loop.daemon.process is not None:
        loop.daemon.stop()


def test_ralph_runs_unedited_while_the_daemon_is_killed_again_and_again(loop):
    loop.daemon.start()
    with (loop.folder / "shown").open("wb") as shown:
        process = loop.start("./ralph.sh", "10", stdout=shown)
    for _ in range(3):
        before = (loop.folder / "shown").stat().st_size
        until(lambda before=before: (loop.folder / "shown").stat().st_size > before + 1_000)
        loop.daemon.kill()
        loop.daemon.start()
    (loop.folder / "go").touch()
    assert process.wait(60) == 0
    shown = (loop.folder / "shown").read_text()
    assert shown.count("Ralph Iteration") == 3
    assert f"on {loop.run_id}\n" in shown
    wanted = shown.replace("\x1b[32m", "").replace("\x1b[0m", "")
    wanted = wanted.replace("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[redacted:github-token]")
    until(lambda: loop.text() == wanted, what="all of the output, once")
    (begun,) = loop.events("run.started")
    (ended,) = loop.events("run.completed")
    assert begun["data"]["command"] == "./ralph.sh 10"
    assert (ended["data"]["success"], ended["data"]["exit_code"]) == (True, 0)
    assert ended["data"]["duration_ms"] > 3_000
    assert loop.events("system.run_vanished") == []
    assert loop.daemon.run("tail", "--no-follow").stdout.count("working") == 0
    assert "working" in loop.daemon.run("tail", "--no-follow", "--type", "output.chunk").stdout


def test_a_loop_runs_without_any_daemon_and_is_told_later(loop):
    process = loop.start("bash", "-c", "echo alone; exit 4")
    assert process.communicate(timeout=30)[0] == b"alone\n"
    assert process.returncode == 4
    loop.daemon.start()
    until(lambda: loop.text() == "alone\n")
    until(lambda: loop.card().get("state") == "failed")


def test_binary_output_passes_and_does_no_harm(loop):
    loop.daemon.start()
    binary = os.urandom(3_000_000)
    (loop.folder / "binary").write_bytes(binary)
    process = loop.start("cat", "binary")
    assert process.communicate(timeout=60)[0] == binary
    until(lambda: sum(chunk["data"]["bytes"] for chunk in loop.events("output.chunk")) == len(binary))
    assert sum(len(chunk["data"]["text"].encode()) for chunk in loop.events("output.chunk")) < 1_500_000
    assert loop.get("/health")["status"] == "healthy"


def test_much_output_does_not_hold_up_the_daemon(loop):
    loop.daemon.start()
    process = loop.start(
        "bash",
        "-c",
        "yes 'a line of output as loops print them all day long' | head -c 10000000",
        stdout=subprocess.DEVNULL,
    )
    took = []

    def all_is_there() -> bool:
        took.append(seconds_of(loop.get, "/health"))
        return process.poll() is not None and loop.card()["output_bytes"] == 10_000_000

    # The chunks themselves, asked for again and again, would keep the daemon busier than what is measured.
    until(all_is_there, 50)
    assert process.returncode == 0
    assert sum(chunk["data"]["bytes"] for chunk in loop.events("output.chunk")) == 10_000_000
    assert len(took) > 10
    assert max(took) < 2  # seconds; the figure is in bench


def seconds_of(call: Any, *arguments: Any) -> float:
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def test_a_wrapper_that_is_killed_is_a_run_that_vanished(loop):
    loop.daemon.start()
    process = loop.start("bash", "-c", "echo $$ > pid; echo begun; exec sleep 100", stdout=subprocess.DEVNULL)
    until(lambda: loop.card().get("owned") is True)
    pid = int((loop.folder / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not alive(pid), what="the command is hung up")
    until(lambda: loop.card().get("state") == "vanished")
    assert loop.text() == "begun\n"


def test_the_daemon_is_started_and_not_waited_for(loop, home):
    process = loop.start(
        "bash", "-c", "[[ -e $CLAUDE_LOOP_HOME/daemon.json ]] || echo not yet",
        env={"CLAUDE_LOOP_AUTOSTART": "1", "CLAUDE_LOOP_PORT": "0"},
    )  # fmt: skip
    assert process.communicate(timeout=30)[0] == b"not yet\n"
    until((home / "daemon.json").exists)

"""`up` with a daemon of another build running: it is replaced, nothing is lost, and readers go on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_loop.build import full_version
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home
from tests.e2e.daemon import clean_environment, without_waiting
from tests.support import BIN, ROOT, alive, free_port, kill, until

EVENTS = 300


class Copy:
    """A copy of the code that differs from this one by a comment, and `claude-loop` run from either."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = Home(home)
        self.folder = folder
        self.environ = clean_environment(home) | {"CLAUDE_LOOP_PORT": str(free_port())}

    def begin(self, *arguments: str, old: bool = False, **options: object) -> subprocess.Popen[str]:
        place = self.folder if old else ROOT
        return subprocess.Popen(
            [sys.executable, "-m", "claude_loop", *arguments],
            env=self.environ | {"PYTHONPATH": str(place)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments: str, old: bool = False) -> str:
        process = self.begin(*arguments, old=old)
        out, words = process.communicate(timeout=60)
        assert process.returncode == 0, words
        return out + words

    @property
    def note(self) -> DaemonNote:
        found = DaemonNote.read(self.home)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def other_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(ROOT / "claude_loop", folder / "claude_loop")
    with (folder / "claude_loop" / "daemon.py").open("a") as module:
        module.write("# another build\n")
    return folder


@pytest.fixture
def copy(home: Path, other_build: Path) -> Iterator[Copy]:
    one = Copy(home, other_build)
    yield one
    one.run("down")


def test_it_is_replaced_and_nothing_is_lost(copy):
    assert "started" in copy.run("up", old=True)
    former = copy.note
    assert former.version != full_version()
    with copy.begin("tail", "--json", "--since", "start", "--until", "prd.completed", "--prd", "P") as reader:
        until(lambda: _readers(copy) == 1)
        loop = f"source {BIN}/emit_progress.sh; for ((n=0; n<{EVENTS}; n++)); do emit_event loop.step prd=P n:=$n; done"
        with subprocess.Popen(["bash", "-c", f"{loop}; emit_prd_completed P"], env=copy.environ, cwd="/") as emitter:
            said = copy.run("up")
            assert emitter.wait(60) == 0
        assert f"{former.version} was stopped; {full_version()} took its place" in said
        until(lambda: not alive(former.pid))
        out, _ = reader.communicate(timeout=60)
    events = [json.loads(line) for line in out.splitlines()]
    assert [one["data"]["n"] for one in events if one["type"] == "loop.step"] == list(range(EVENTS))
    assert [one["seq"] for one in events] == sorted({one["seq"] for one in events})
    assert "already runs" in copy.run("up")
    assert copy.note.version == full_version()


def _readers(copy: Copy) -> int:
    return int(json.loads(copy.run("status", "--json"))["clients"])


def test_of_two_at_once_one_replaces_it_and_the_other_finds_the_new_one(copy):
    copy.run("up", old=True)
    both = [copy.begin("up") for _ in range(2)]
    words = sorted(without_waiting(process.communicate(timeout=60)[1]) for process in both)
    assert [process.returncode for process in both] == [0, 0], words
    assert "already runs" in words[1]
    assert "took its place" in words[0]
    assert str(copy.note.pid) in words[0]
    assert str(copy.note.pid) in words[1]


def test_one_in_the_foreground_is_replaced_with_the_flags_it_had(copy):
    port = free_port()
    with copy.begin("serve", "--port", str(port), old=True) as former:
        until(lambda: DaemonNote.read(copy.home))
        assert f"127.0.0.1:{port}" in copy.run("up")
        assert former.wait(30) == 0
    assert copy.note.url.endswith(f":{port}")


def test_settings_that_no_daemon_would_start_with_leave_the_old_one_alone(copy):
    copy.run("up", old=True)
    former = copy.note
    copy.environ["CLAUDE_LOOP_DURABILITY"] = "perhaps"
    process = copy.begin("up")
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "CLAUDE_LOOP_DURABILITY" in words
    assert copy.note == former
    assert alive(former.pid)


def test_a_server_inside_a_program_is_left_to_that_program(copy):
    program = (
        "import asyncio; from claude_loop.websocket_server import ClaudeLoopWebSocketServer as S;"
        "asyncio.run(S(port=0).run_forever())"
    )
    environ = copy.environ | {"PYTHONPATH": str(copy.folder)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ, cwd="/") as embedding:
        until(lambda: DaemonNote.read(copy.home))
        said = copy.run("up")
        assert "already runs" in said
        assert "part of another program" in said
        assert embedding.poll() is None
        kill(embedding.pid)


SYSTEMCTL = """#!/bin/sh
echo "$*" >> {log}
case "$2" in
  show) sed 's/.*"pid": \\([0-9]*\\).*/\\1/' {home}/daemon.json ;;
  restart)
    kill $(sed 's/.*"pid": \\([0-9]*\\).*/\\1/' {home}/daemon.json)
    while [ -e {home}/daemon.json ]; do sleep 0.05; done
    cd / && PYTHONPATH={place} {python} -m claude_loop serve >/dev/null 2>&1 </dev/null & ;;
esac
"""


@pytest.mark.parametrize("same", [True, False], ids=["this copy", "another copy"])
def test_under_systemd_its_unit_is_restarted(copy, tmp_path, same):
    """A script stands in for the user manager: it starts whatever its unit names, which may be another copy."""
    copy.run("up", old=True)
    former, log = copy.note, tmp_path / "asked"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    place = ROOT if same else copy.folder
    program.write_text(SYSTEMCTL.format(log=log, home=copy.home.root, place=place, python=sys.executable))
    program.chmod(0o755)
    (tmp_path / "systemd" / "user").mkdir(parents=True)
    (tmp_path / "systemd" / "private").touch()
    unit = tmp_path / "systemd" / "user" / "claude-loop.service"
    unit.write_text(f"[Service]\nEnvironment=CLAUDE_LOOP_HOME={copy.home.root}\n")
    path = f"{program.parent}:{os.environ['PATH']}"
    copy.environ |= {"XDG_CONFIG_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PATH": path}
    said = copy.run("up")
    assert "took its place" in said
    assert "--user restart claude-loop.service" in log.read_text()
    assert "--user stop" not in log.read_text()
    until(lambda: not alive(former.pid))
    assert ("another copy: `claude-loop service install`" in said) is not same

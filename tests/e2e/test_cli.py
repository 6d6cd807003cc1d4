"""The commands around a real daemon: starting, stopping, asking, emitting, and being refused."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_loop.client import DaemonClient
from claude_loop.instance import DaemonNote
from claude_loop.paths import Home
from tests.e2e.daemon import Daemon, clean_environment, run_command, shared_daemon, without_waiting
from tests.support import ROOT, alive, until

COMMAND = [sys.executable, "-m", "claude_loop"]


class Person:
    """Runs commands on one home, as its owner would."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = Home(home)
        self.environ = (
            clean_environment(home) | {"CLAUDE_LOOP_PORT": "0", "XDG_CONFIG_HOME": str(home.parent)} | environ
        )

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_command(self.environ | environ, *arguments)

    @property
    def pid(self) -> int:
        note = DaemonNote.read(self.home)
        assert note is not None
        return note.pid


@pytest.fixture
def person(home: Path) -> Iterator[Person]:
    home.parent.mkdir(exist_ok=True)
    someone = Person(home)
    yield someone
    someone.run("down")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with shared_daemon() as one:
        yield one


def test_up_status_down(person) -> None:
    down = person.run("status")
    assert (down.returncode, down.stdout) == (3, "")
    assert down.stderr == f"claude-loop: No daemon answers on {person.home.socket}.\n  `claude-loop up` starts it.\n"

    first = person.run("up")
    assert (first.returncode, first.stdout) == (0, "")
    note = DaemonNote.read(person.home)
    assert first.stderr == f"claude-loop started at {note.url} (pid {note.pid}).\n"
    assert person.run("up").stderr == f"claude-loop already runs at {note.url} (pid {note.pid}).\n"

    status = person.run("status")
    assert (status.returncode, status.stderr) == (0, "")
    first_line, second_line, third_line = status.stdout.splitlines()
    assert first_line.endswith(f"is healthy at {note.url}")
    assert second_line.startswith(f"  pid {note.pid}, up ")
    assert second_line.endswith(", 0 clients, 0 events stored")
    assert third_line == f"  in {person.home.root}"
    told = json.loads(person.run("status", "--json").stdout)
    assert (told["pid"], told["url"], told["status"]) == (note.pid, note.url, "healthy")

    ended = person.run("down")
    assert (ended.returncode, ended.stderr) == (0, "claude-loop stopped.\n")
    until(lambda: not alive(note.pid))
    again = person.run("down")
    assert (again.returncode, again.stderr) == (0, "claude-loop was not running.\n")


def test_many_ups_at_once_make_one_daemon(person) -> None:
    line = [*COMMAND, "up"]
    processes = [
        subprocess.Popen(line, env=person.environ, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [without_waiting(process.communicate(timeout=60)[1]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(words.split(" at ")[0] for words in said) == ["claude-loop already runs"] * 3 + [
        "claude-loop started"
    ]
    assert len({words.partition(" at ")[2] for words in said}) == 1


@pytest.mark.parametrize(
    ("command", "status"),
    [(["prds"], 0), (["show", "PRD-1"], 2), (["open", "--print-url"], 0), (["tail", "--no-follow"], 0)],
)
def test_asking_starts_the_daemon_unless_that_is_not_wanted(person, command, status) -> None:
    refused = person.run(*command, CLAUDE_LOOP_AUTOSTART="0")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "`claude-loop up` starts it" in refused.stderr
    started = person.run(*command)
    assert started.returncode == status
    assert alive(person.pid)


def test_a_start_that_fails_says_why_and_what_to_do(person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in (["up"], ["tail"]):
            failed = person.run(*command, CLAUDE_LOOP_PORT=port)
            assert (failed.returncode, failed.stdout) == (3, "")
            complaint, hint = failed.stderr.splitlines()
            assert complaint.startswith(f"claude-loop: The daemon could not start: Port {port} on 127.0.0.1 is taken")
            assert "CLAUDE_LOOP_PORT" in hint
        foreground = person.run("serve", "--port", port)
        assert foreground.returncode == 1
        assert f"Port {port}" in foreground.stderr


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CLAUDE_LOOP_PORT": "many"}, "CLAUDE_LOOP_PORT must be a whole number"),
        ({"CLAUDE_LOOP_AUTH__LOOPBACK": "everybody"}, "CLAUDE_LOOP_AUTH__LOOPBACK must be one of"),
        ({"CLAUDE_LOOP_LIMITS": "{"}, "CLAUDE_LOOP_LIMITS must be a table"),
    ],
)
def test_a_wrong_setting_is_named(person, environ, named) -> None:
    failed = person.run("serve", **environ)
    assert failed.returncode == 1
    complaint, hint = failed.stderr.splitlines()
    assert named in complaint
    assert "docs/settings.md" in hint


def test_a_configuration_file_that_is_none_is_named(person) -> None:
    file = person.home.root.parent / "claude-loop" / "config.toml"
    file.parent.mkdir()
    file.write_text("port = \n")
    failed = person.run("serve")
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"claude-loop: {file} is not TOML: ")


def test_serve_refuses_a_home_that_has_a_daemon(daemon) -> None:
    refused = daemon.run("serve")
    assert refused.returncode == 4
    assert f"(pid {daemon.pid}, {daemon.url})" in refused.stderr


def test_emit_prds_show(daemon) -> None:
    assert daemon.run("emit", "prd.started", "--prd", "A-1", "total_stories:=2", "title=Checkout").returncode == 0
    for type_, *fields in (
        ("story.started",),
        ("test.run", "passed:=3", "failed:=0"),
        ("commit.created", "commit_hash=abc123d"),
        ("story.completed", "success:=true", "--wait"),
    ):
        done = daemon.run("emit", type_, "--prd", "A-1", "--story", "US-001", *fields)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = daemon.run("prds")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "▶ proof/A-1 Checkout  running · " in listed.stdout
    assert "1 verified · 1 to do" in listed.stdout
    assert daemon.run("prds", "--project", "proof").stdout.splitlines()[0].startswith("▶ proof/A-1 Checkout  running")
    other = daemon.run("prds", "--project", "prof")
    assert (other.returncode, other.stdout) == (0, "")
    assert other.stderr == "No PRD is of that project; `claude-loop prds` lists those there are.\n"
    shown = daemon.run("show", "A-1").stdout.splitlines()
    assert shown[2].startswith("  ✓ US-001  done, verified · ")
    assert shown[2].endswith("tests 3 passed · commit abc123d")
    assert [card["prd_id"] for card in json.loads(daemon.run("prds", "--json").stdout)["prds"]] == ["A-1"]
    assert json.loads(daemon.run("show", "A-1", "--json").stdout)["stories"][0]["state"] == "done·verified"
    daemon.run("emit", "prd.started", "--prd", "A-1", "--wait")
    assert "no story yet · run 2 of 2" in daemon.run("show", "A-1").stdout
    earlier = daemon.run("show", "proof/A-1", "--run", "1").stdout.splitlines()
    assert (earlier[1], earlier[2]) == ("  1 verified · 1 to do · run 1 of 2", shown[2])
    assert "A-1 has no run 3; the latest are 1, 2." in daemon.run("show", "A-1", "--run", "3").stderr


def test_a_prd_that_is_not_there_or_in_several_projects(daemon) -> None:
    missing = daemon.run("show", "no/such prd")
    assert missing.returncode == 2
    assert (
        missing.stderr
        == "claude-loop: No event has named a PRD no/such prd.\n  `claude-loop prds` lists those there are.\n"
    )
    for project in ("one", "two"):
        daemon.run("emit", "prd.started", "--prd", "TWICE", "--project", project, "--wait")
    for words, number, found in (("show t", "2", ["two/TWICE"]), ("tail --prd T", "3", ["TWICE"])):
        typed = {
            "_CLAUDE_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": f"claude-loop {words}", "COMP_CWORD": number
        }  # fmt: skip
        proposed = run_command(daemon.environ | typed).stdout
        assert proposed.splitlines() == [f"plain,{name}" for name in found]
    assert "--project" in daemon.run("show", "TWICE").stderr
    assert daemon.run("show", "TWICE", "--project", "two").stdout.startswith("▶ two/TWICE")


def test_what_the_spool_could_not_take_is_shown(daemon) -> None:
    daemon.home.spool.joinpath("1700000000000000-1-0badc0de.jsonl").write_text("\nno \x1b[2J json\n")
    status = until(lambda: "rejected" in (shown := daemon.run("status").stdout) and shown)
    assert "  1 spool line rejected, the last ones:" in status
    assert "0badc0de" in status
    assert "\x1b" not in status


def test_open_prints_an_address_that_works_once(daemon) -> None:
    opened = daemon.run("open", "--print-url")
    assert (opened.returncode, opened.stderr) == (0, "")
    base, code = opened.stdout.strip().split("/#")
    assert base == daemon.url

    def redeem() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
        connection.request("POST", "/api/session", json.dumps({"code": code}), {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    assert [redeem(), redeem()] == [200, 401]


@pytest.mark.requires("linux", "root")
def test_a_printed_address_is_for_any_user(daemon) -> None:
    code = daemon.run("open", "--print-url").stdout.strip().partition("#")[2]
    body = json.dumps({"code": code})
    program = (
        "import encodings.idna, http.client, os; os.setuid(12345)\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {daemon.port})\n"
        f"c.request('POST', '/api/session', {body!r}, {{'Content-Type': 'application/json'}})\n"
        "print(c.getresponse().status)"
    )
    line = [sys.executable, "-I", "-c", program]
    done = subprocess.run(line, cwd="/", capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "200"


class TestElsewhere:
    """CLAUDE_LOOP_URL and CLAUDE_LOOP_TOKEN, from a home that has no daemon."""

    @pytest.fixture
    def away(self, daemon: Daemon, home: Path) -> Person:
        home.parent.mkdir(exist_ok=True)
        return Person(home, CLAUDE_LOOP_URL=daemon.url)

    @pytest.fixture
    def token(self, daemon: Daemon) -> str:
        return daemon.home.token.read_text().strip()

    def test_with_the_token_everything_works(self, away, token, daemon) -> None:
        away.environ["CLAUDE_LOOP_TOKEN"] = token
        done = away.run("emit", "prd.started", "--prd", "FAR-1", "--project", "far")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert not away.home.spool.exists()
        assert "far/FAR-1" in away.run("prds").stdout
        assert json.loads(away.run("status", "--json").stdout)["pid"] == daemon.pid
        assert "far/FAR-1" in away.run("tail", "--no-follow", "--prd", "FAR-1").stdout
        assert away.run("open", "--print-url").stdout.startswith(f"{daemon.url}/#")

    @pytest.mark.requires("linux")
    def test_without_a_token_one_may_emit_and_read(self, away) -> None:
        assert away.run("emit", "a.b").returncode == 0
        assert away.run("prds").returncode == 0
        refused = away.run("open", "--print-url")
        assert (refused.returncode, refused.stdout) == (4, "")

    def test_a_wrong_token_is_refused(self, away) -> None:
        away.environ["CLAUDE_LOOP_TOKEN"] = "clt_wrong"
        for command in (["prds"], ["status"], ["tail"], ["emit", "a.b"], ["open"]):
            refused = away.run(*command)
            assert (refused.returncode, refused.stdout) == (4, "")
            assert "CLAUDE_LOOP_TOKEN" in refused.stderr
            assert "clt_wrong" not in refused.stderr

    def test_an_event_that_is_refused_is_a_mistake_of_usage(self, away) -> None:
        refused = away.run("emit", "test.run", "--story", "S", "passed=many")
        assert refused.returncode == 2
        assert "`data.passed`" in refused.stderr

    @pytest.mark.parametrize("url", ["127.0.0.1:18790", "nonsense", "ftp://127.0.0.1"])
    def test_what_is_no_address_is_a_mistake_of_usage(self, away, url) -> None:
        refused = away.run("prds", CLAUDE_LOOP_URL=url)
        assert refused.returncode == 2
        assert url in refused.stderr

    def test_nobody_there(self, away, port) -> None:
        for command in (["prds"], ["status"], ["tail"], ["emit", "a.b"]):
            for token in ("", "clt_any"):
                failed = away.run(*command, CLAUDE_LOOP_URL=f"http://127.0.0.1:{port}", CLAUDE_LOOP_TOKEN=token)
                assert (failed.returncode, failed.stdout) == (3, "")
        assert not away.home.root.exists()  # nothing was started here


def test_a_home_of_any_length(home) -> None:
    deep = home / ("x" * 100) / ("y" * 60)
    someone = Person(deep)
    assert someone.run("up").returncode == 0
    assert someone.run("emit", "a.b", "--wait").returncode == 0
    assert someone.run("tail", "--no-follow").stdout.endswith("· a.b\n")
    assert someone.run("down").stderr == "claude-loop stopped.\n"


def test_output_in_a_locale_without_our_symbols(daemon) -> None:
    daemon.run("emit", "prd.started", "--prd", "PLAIN", "title=Prüfung", "--wait")
    plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for command in (["tail", "--no-follow", "--prd", "PLAIN"], ["show", "PLAIN"]):
        done = subprocess.run(
            [*COMMAND, *command], env=daemon.environ | plain, cwd=ROOT, capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"> " in done.stdout
        assert b"Pr?fung" in done.stdout
        assert done.stdout.isascii()
    told = subprocess.run(
        [*COMMAND, "prds", "--json"], env=daemon.environ | plain, cwd=ROOT, capture_output=True, timeout=30, check=True
    )
    cards: list[dict[str, Any]] = json.loads(told.stdout.decode())["prds"]
    assert "Prüfung" in [card["title"] for card in cards]


def test_a_status_page_cut_short_by_its_reader_is_no_failure(daemon) -> None:
    program = 'set -o pipefail; "$PYTHON" -m claude_loop status --json | head -c 1'
    environ = daemon.environ | {"PYTHON": sys.executable}
    done = subprocess.run(["bash", "-c", program], env=environ, cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{", b"")


def test_what_waits_in_the_spool_is_shown_and_then_gone(person) -> None:
    assert person.run("emit", "prd.started", "--prd", "EARLY").returncode == 0
    assert person.run("up").returncode == 0
    until(lambda: "EARLY" in person.run("prds").stdout)
    client = DaemonClient(person.home)
    until(lambda: client.get("/status")["spool"]["backlog_files"] == 0)
    assert os.listdir(person.home.flush) == []

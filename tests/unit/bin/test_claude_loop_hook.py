"""The agents' hook: what its record holds, whatever the payload is, and that its caller never notices it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_loop.formats.agent_hooks import restored
from claude_loop.intake.spool_lines import MAX_LINE_BYTES
from claude_loop.intake.spool_names import author
from tests.support import BIN, PATIENCE
from tests.unit.bin.bash_scripts import environment

HOOK = BIN / "claude-loop-hook"
BOTH = pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
PAYLOAD = {"session_id": "s", "hook_event_name": "Stop", "text": 'a "q" \\ \n\t é 😀 \x7f'}


def call(
    payload: bytes | None, *arguments: str, mode: str = "bash-5", prefix: tuple[str, ...] = (), **environ: str
) -> None:
    """Run the hook with a socket as stdin, as Node gives it to hooks, and insist on silence and status 0."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [*prefix, str(HOOK), *(arguments or ("claude",))],
            stdin=theirs if payload is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(mode) | environ,
            cwd=Path(os.environ["CLAUDE_LOOP_HOME"]).parent,
        ) as process,
    ):
        theirs.close()
        if payload:
            ours.sendall(payload)
        ours.shutdown(socket.SHUT_WR)
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, b"", b"")


def records(home: Path) -> list[dict[str, Any]]:
    found = []
    for file in sorted((home / "spool").glob("*")):
        content = file.read_bytes()
        assert content.startswith(b"\n{")
        assert content.endswith(b"}\n")
        assert content.count(b"\n") == 2
        assert len(content) < MAX_LINE_BYTES
        found.append(json.loads(content.decode(errors="replace"), strict=False))
        assert found[-1]["id"] == f"{file.stem}.1"
    return found


def data_of(home: Path) -> dict[str, Any]:
    (record,) = records(home)
    return record["data"]


@BOTH
def test_the_record(home: Path, mode: str) -> None:
    call(json.dumps(PAYLOAD, ensure_ascii=False).encode(), mode=mode)
    (record,) = records(home)
    assert record["data"] == PAYLOAD
    assert (record["type"], record["source"]) == ("hook.claude", "claude")
    assert record["project"] == home.parent.name
    (file,) = (home / "spool").iterdir()
    written = author(file.stem)
    assert written is not None
    assert round(record["timestamp"] * 1e6) == written.since_us
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "spool").stat().st_mode) == 0o700
    assert list(record) == ["id", "type", "project", "source", "timestamp", "data"]


@BOTH
def test_the_context_is_passed_along(home: Path, mode: str) -> None:
    ids = {"PROJECT": 'p "x"', "PRD": "P\\1", "STORY": "US\n1", "RUN": "r", "SESSION": "é"}
    call(b"{}", mode=mode, **{f"CLAUDE_LOOP_{name}": value for name, value in ids.items()})
    (record,) = records(home)
    names = ("project", "prd_id", "story_id", "run_id", "session_id")
    assert [record[name] for name in names] == ['p "x"', "P\\1", "US 1", "r", "é"]


def test_the_project_is_that_of_the_repository(home: Path) -> None:
    (home.parent / ".git").touch()
    (home.parent / "a" / "b").mkdir(parents=True)
    call(b"{}", prefix=("env", "-C", str(home.parent / "a" / "b")))
    assert records(home)[0]["project"] == home.parent.name


def test_codex_and_its_notify(home: Path) -> None:
    call(b'{"hook_event_name":"Stop"}', "codex")
    call(None, "codex-notify", '{"type":"agent-turn-complete",\n "x": 1}')
    first, second = records(home)
    assert (first["type"], first["source"], first["data"]) == ("hook.codex", "codex", {"hook_event_name": "Stop"})
    assert (second["type"], second["source"]) == ("hook.codex", "codex")
    assert second["data"] == {"type": "agent-turn-complete", "x": 1}


@BOTH
@pytest.mark.parametrize("size", [1, 4_096, 16_383, 16_384, 16_385, 100_000, 999_900])
def test_payloads_of_all_sizes_come_whole(home: Path, mode: str, size: int) -> None:
    body = json.dumps({"a": "", "b": "é"}, ensure_ascii=False).encode()
    payload = body.replace(b'""', b'"' + b"x \\n" * (max(0, size - len(body)) // 4) + b'"')
    payload += b" " * max(0, size - len(payload))
    call(payload, mode=mode)
    assert data_of(home) == json.loads(payload)


@BOTH
@pytest.mark.parametrize("indent", [1, "\t"])
def test_a_payload_of_many_lines_becomes_one(home: Path, mode: str, indent: Any) -> None:
    payload = {"list": list(range(9_000)), "text": "two\nlines * ? [a]"}
    call(b"\n\n" + json.dumps(payload, indent=indent).replace("\n", "\r\n").encode() + b"\n\n", mode=mode)
    assert data_of(home) == payload


@BOTH
@pytest.mark.parametrize("payload", [b"", b"\n \n", None])
def test_nothing_is_an_empty_object(home: Path, mode: str, payload: bytes | None) -> None:
    call(payload, mode=mode)
    assert data_of(home) == {}


@BOTH
@pytest.mark.parametrize("size", [1_000_001, 1_048_576, 10_000_000])
def test_of_what_is_too_large_the_names_are_known(home: Path, mode: str, size: int) -> None:
    payload = {"session_id": "s", "hook_event_name": "PostToolUse", "tool_name": "Write", "tool_input": {"content": ""}}
    text = json.dumps({**payload, "tool_use_id": "toolu_1", "duration_ms": 5})
    call(text.replace('""', '"' + "word " * (size // 5) + '"').encode(), mode=mode)
    known = restored(data_of(home))
    assert known.pop("_cut") is True
    assert known["tool_input"]["content"].startswith("word word")
    assert known.pop("tool_input").keys() == {"content"}
    assert known == {
        "session_id": "s",
        "hook_event_name": "PostToolUse",
        "tool_name": "Write",
        "tool_use_id": "toolu_1",
        "duration_ms": 5,
    }


@BOTH
def test_what_was_cut_off_is_put_together_again(home: Path, mode: str) -> None:
    call(
        b'{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"ls \\', mode=mode
    )
    known = restored(data_of(home))
    assert known == {
        "session_id": "s",
        "hook_event_name": "PreToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": "ls "},
        "_cut": True,
    }


@BOTH
@pytest.mark.parametrize("size", [200, 20_000, 10_000_000])
def test_binary_payloads_are_kept_as_text(home: Path, mode: str, size: int) -> None:
    call(os.urandom(size), mode=mode)
    assert set(data_of(home)) == {"_cut"}


@BOTH
def test_a_cut_leaves_no_half_of_a_key(home: Path, mode: str) -> None:
    key = "sk-ant-api03-" + "A1b2C3d4" * 12
    text = '{"hook_event_name":"X","t":"' + f"{key} " * 12_000 + '"}'
    call(text.encode(), mode=mode)
    begin = data_of(home)["_cut"]["begin"]
    assert set(begin.split('"')[-1].split()) == {key}


@BOTH
def test_it_can_be_silenced_and_reads_its_payload_all_the_same(home: Path, mode: str) -> None:
    call(b"x" * 3_000_000, mode=mode, CLAUDE_LOOP_DISABLE="1")
    call(b"{}", mode=mode, CLAUDE_LOOP_DISABLE="0")
    assert len(records(home)) == 1


@pytest.mark.parametrize("arguments", [("",), ("--help",), ("Gem ini",), ("../x",), ('a"b',)])
def test_for_what_is_no_agent_it_does_nothing(home: Path, arguments: tuple[str, ...]) -> None:
    call(None, *arguments)
    assert not home.exists()


def test_without_a_home_that_can_be_used_it_is_silent(home: Path) -> None:
    (home.parent / "file").touch()
    call(b"{}", CLAUDE_LOOP_HOME=str(home.parent / "file"))
    call(b"{}", CLAUDE_LOOP_HOME="/proc/nowhere", HOME="/nonexistent")
    call(b"{}", CLAUDE_LOOP_HOME="", HOME="", XDG_STATE_HOME="relative", PWD="")
    home.mkdir()
    (home / "spool").symlink_to("/proc")
    call(b"{}")


def test_a_relative_home_is_one(home: Path) -> None:
    call(b"{}", CLAUDE_LOOP_HOME="home")
    assert len(records(home)) == 1


@pytest.mark.requires("linux")
def test_a_file_size_limit_kills_nobody(home: Path) -> None:
    (home / "spool").mkdir(mode=0o700, parents=True)
    call(json.dumps({"a": "x" * 9_000}).encode(), prefix=("bash", "-c", 'ulimit -f 1; exec "$@"', "x"))
    (file,) = (home / "spool").iterdir()
    assert file.stat().st_size <= 1_024


def test_an_environment_of_odd_shells_changes_nothing(home: Path) -> None:
    (home.parent / "startup").write_text("echo noise; exit 3")
    environ = {
        "BASH_ENV": str(home.parent / "startup"),
        "SHELLOPTS": "xtrace:errexit:nounset:noclobber",
        "BASHOPTS": "nocasematch:nullglob:failglob",
        "BASH_FUNC_printf%%": "() { echo hijacked; }",
        "TMOUT": "0.001",
        "BASH_COMPAT": "3.2",
        "POSIXLY_CORRECT": "1",
        "LC_ALL": "POSIX",
        "IFS": "0123456789",
    }
    call(json.dumps(PAYLOAD).encode(), **environ)
    assert data_of(home) == PAYLOAD


def test_many_at_once_write_a_line_each(home: Path) -> None:
    processes = [
        subprocess.Popen([str(HOOK), "claude"], stdin=subprocess.PIPE, env=environment(), stdout=subprocess.DEVNULL)
        for _ in range(40)
    ]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(b'{"n":%d}' % number)
        process.stdin.close()
    assert [process.wait(PATIENCE) for process in processes] == [0] * 40
    assert sorted(record["data"]["n"] for record in records(home)) == list(range(40))


@pytest.mark.requires("linux")
def test_one_that_is_killed_while_it_reads_has_written_nothing(home: Path) -> None:
    process = subprocess.Popen([str(HOOK), "claude"], stdin=subprocess.PIPE, env=environment())
    assert process.stdin is not None
    process.stdin.write(b'{"a":')
    process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdin.close()
    assert not home.exists() or not list((home / "spool").iterdir())


@pytest.mark.requires("strace")
def test_it_starts_no_process(home: Path, tmp_path: Path) -> None:
    (home / "spool").mkdir(mode=0o700, parents=True)
    trace = tmp_path / "trace"
    call(
        json.dumps({"a": "x" * 10_000}).encode(),
        prefix=("strace", "-f", "-qq", "-o", str(trace), "-e", "trace=execve,clone,clone3,fork,vfork"),
    )
    assert [line for line in trace.read_text().splitlines() if "exited" not in line and "execve" not in line] == []
    assert trace.read_text().count("execve") == 1

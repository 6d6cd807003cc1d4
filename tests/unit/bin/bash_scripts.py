"""Running bash scripts that emit, and reading what they left in the spool."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.support import BIN

EMITTER = BIN / "emit_progress.sh"
# What CLAUDE_LOOP_EMIT_COMPAT pretends: nothing, bash 3.2, and bash 3.2 without /proc and GNU date, as on macOS.
MODES = {"bash-5": "", "bash-3.2": "1", "no-proc": "2"}

# One call of everything that writes a record, with values that have to be escaped.
ALL_CALLS = r"""
emit_prd_started P 3
emit_story_started P S
emit_test_run P S 1 2 a 'b "c"'
emit_commit_created P S abc 'sub "ject"'
emit_error P S $'m "q" \\ \n\t\033\001 é'
emit_log_message P S info m
emit_progress P S 1 2.5 m
emit_iteration P 1 5
emit_waiting P human why
emit_resumed P
emit_event a.b 'k=v' 'j:=[1,{"a":null}]' w
emit_story_completed P S true
emit_prd_completed P
"""
ALL_TYPES = [
    "prd.started",
    "story.started",
    "test.run",
    "commit.created",
    "error.occurred",
    "log.message",
    "progress.updated",
    "iteration.started",
    "agent.waiting",
    "agent.resumed",
    "a.b",
    "story.completed",
    "prd.completed",
]


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


def bash(
    script: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    mode: str = "bash-5",
    options: tuple[str, ...] = (),
    stdin: bytes = b"",
    cwd: Path | None = None,
    prefix: tuple[str, ...] = (),
) -> Ran:
    """Run ``script`` with ``$1`` the emitter and the arguments after it; the state directory is the test's."""
    done = subprocess.run(
        [*prefix, "bash", *options, "-c", script, "script", str(EMITTER), *arguments],
        input=stdin,
        capture_output=True,
        env=environment(mode) | dict(env or {}),
        cwd=cwd or Path(os.environ["CLAUDE_LOOP_HOME"]).parent,
        timeout=50,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def environment(mode: str = "bash-5") -> dict[str, str]:
    home = os.environ["CLAUDE_LOOP_HOME"]
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(Path(home).parent),
        "CLAUDE_LOOP_HOME": home,
        "CLAUDE_LOOP_EMIT_COMPAT": MODES[mode],
        "LC_ALL": "C.UTF-8",
    }


def emitted(script: str, **more: Any) -> list[dict[str, Any]]:
    """The records of ``script``, which sources the emitter itself only if it names ``$1``; it has to be silent."""
    if "$1" not in script:
        script = f'source "$1"\n{script}'
    ran = bash(script, **more)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    return records()


def records(home: Path | None = None) -> list[dict[str, Any]]:
    """All records, file by file in the order of the names, so of the times when the files were begun.

    Checks what holds for every record: its frame, that strict parsers take it, and that its id tells file and line.
    """
    found = []
    for file in sorted((home or Path(os.environ["CLAUDE_LOOP_HOME"])).glob("spool/*.jsonl")):
        lines = file.read_bytes().split(b"\n\n")
        assert lines[0].startswith(b"\n")
        assert lines[-1].endswith(b"\n")
        numbers = []
        for line in lines:
            text = line.strip(b"\n").decode(errors="replace")
            record = json.loads(text)
            assert orjson.loads(text) == record
            stem, _, number = record["id"].rpartition(".")
            assert stem == file.stem
            numbers.append(int(number))
            found.append(record)
        assert len(set(numbers)) == len(numbers)
    return found

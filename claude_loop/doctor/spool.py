"""What waits in the spool, and what could not be read."""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterator
from typing import Any

from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.home import megabytes
from claude_loop.doctor.scene import Scene
from claude_loop.paths import open_private

# A daemon that works is never this far behind for longer than a moment.
MANY_BYTES = 50_000_000
SHOWN = 3
_MOST_BYTES = 2 * 1024 * 1024


def backlog(scene: Scene) -> Iterator[Finding]:
    status = scene.daemon.status
    if status is None:
        files, size = _lying_there(scene)
        if size and not scene.daemon.runs:
            lying = f"In the spool: {_files(files)} ({megabytes(size)})."
            yield warning(f"{lying} What of it is not stored yet waits for a daemon.", "claude-loop up")
        elif not size:
            yield ok("Nothing waits in the spool.")
        return
    spool = status.get("spool") or {}
    waiting, size = spool.get("backlog_files", 0), spool.get("backlog_bytes", 0)
    if spool.get("failure"):
        yield problem(f"The spool cannot be stored at the moment: {spool['failure']}.", "claude-loop status")
    elif size > MANY_BYTES:
        yield warning(f"The daemon is {megabytes(size)} behind, in {_files(waiting)}.", "claude-loop status")
    elif waiting:
        yield ok(f"Being read from the spool: {_files(waiting)} ({megabytes(size)}).")
    else:
        yield ok("Nothing waits in the spool.")


def _lying_there(scene: Scene) -> tuple[int, int]:
    """Files and bytes; without a daemon nobody knows how much of them was read before."""
    count = size = 0
    for folder in (scene.home.spool, scene.home.leaving):
        for entry in os.scandir(folder) if folder.is_dir() else ():
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                count, size = count + 1, size + found.st_size
    return count, size


def writable(scene: Scene) -> Iterator[Finding]:
    """Whether an emitter that runs as this user could append."""
    spool = scene.home.spool
    if spool.is_dir() and not os.access(spool, os.W_OK | os.X_OK):
        yield problem(f"{spool} may not be written: events are lost.", f"chmod u+rwx {shlex.quote(str(spool))}")


def foreign(scene: Scene) -> Iterator[Finding]:
    """The daemon reads regular files of its own user, and nothing else."""
    if not scene.home.spool.is_dir():
        return
    for entry in os.scandir(scene.home.spool):
        found = entry.stat(follow_symlinks=False)
        if found.st_uid != os.geteuid():
            fix = f"sudo chown {os.geteuid()} {shlex.quote(entry.path)}"
            yield warning(f"{entry.path} belongs to uid {found.st_uid} and is not read.", fix)


def rejected_lines(scene: Scene) -> Iterator[Finding]:
    path = scene.home.rejected / "lines.jsonl"
    try:
        with os.fdopen(open_private(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except FileNotFoundError:
        yield ok("No spooled line was rejected.")
        return
    quoted = shlex.quote(str(path))
    last = [note for line in lines[-SHOWN:] if (note := _note(line)) is not None]
    reasons = "; ".join(f"{note.get('file')}: {str(note.get('reason')).rstrip('.')}" for note in last)
    count = "1 spooled line was" if len(lines) == 1 else f"{len(lines)} spooled lines were"
    yield warning(f"{count} rejected, last: {reasons[:400]}.", f"less {quoted} && rm {quoted}")


def _note(line: bytes) -> dict[str, Any] | None:
    try:
        note = json.loads(line)
    except ValueError:  # torn by a crash
        return None
    return note if isinstance(note, dict) else None


def set_aside(scene: Scene) -> Iterator[Finding]:
    """Files that lay in the spool and could not be read."""
    folder = scene.home.rejected
    names = [name for name in os.listdir(folder) if not name.startswith("lines.")] if folder.is_dir() else []
    if names:
        yield warning(
            f"{_files(len(names))} could not be read and were moved aside.", f"ls -l {shlex.quote(str(folder))}"
        )


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


CHECKS = {
    "spool": backlog,
    "spool.writable": writable,
    "spool.foreign": foreign,
    "spool.rejected": rejected_lines,
    "spool.set_aside": set_aside,
}

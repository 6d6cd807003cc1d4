"""The state directory: whether it is there, ours alone, on a disk that SQLite can trust, and has room."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene
from claude_loop.errors import UnsafeHome
from claude_loop.eventlog.migrations import STEPS
from claude_loop.paths import NETWORK_FILE_SYSTEMS, file_system_type
from claude_loop.transports.token_file import read_token
from claude_loop.transports.token_store import TokenStore

ELSEWHERE = 'export CLAUDE_LOOP_HOME="$HOME/claude-loop"'
# Below the first nothing can be stored; below the second a busy night may get there.
NO_ROOM, LITTLE_ROOM = 1024 * 1024, 500 * 1024 * 1024
# SQLite's file format: the magic string, and the schema version as a big-endian number.
_MAGIC, _VERSION_AT = b"SQLite format 3\0", 60


def directory(scene: Scene) -> Iterator[Finding]:
    root = scene.home.root
    if not os.path.lexists(root):
        yield ok(f"{root} is not there yet; the first start makes it.")
    elif not root.is_dir():
        yield problem(f"{root} is not a directory.", ELSEWHERE)
    elif (found := root.stat()).st_uid != os.geteuid():
        yield problem(f"{root} belongs to uid {found.st_uid}, not to you.", ELSEWHERE)
    elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield problem(f"{root} may not be written by you.", f"chmod u+rwx {shlex.quote(str(root))}")
    elif found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        yield warning(f"{root} is open to others (mode {mode:04o}).", f"chmod 700 {shlex.quote(str(root))}")
    else:
        yield ok(f"{root} is there, and yours alone.")


def file_system(scene: Scene) -> Iterator[Finding]:
    root = scene.home.root
    if not root.is_dir():
        return
    kind = file_system_type(root)
    if kind in NETWORK_FILE_SYSTEMS:
        yield problem(f"{root} is on a network file system ({kind}), where SQLite's WAL is not safe.", ELSEWHERE)
    elif kind is not None:
        yield ok(f"The state directory is on {kind}.")


def parts(scene: Scene) -> Iterator[Finding]:
    """The directories inside, which are never links: emitters and daemon must mean the same ones."""
    home = scene.home
    inside = [home.spool, home.leaving, home.rejected, home.flush, home.runs]
    for path in filter(os.path.lexists, inside):
        found, quoted = path.lstat(), shlex.quote(str(path))
        if stat.S_ISLNK(found.st_mode):
            yield problem(f"{path} is a symbolic link.", f"rm {quoted}")
        elif not stat.S_ISDIR(found.st_mode):
            yield problem(f"{path} is not a directory.", f"mv {quoted} {quoted}.aside")
        elif found.st_uid != os.geteuid():
            yield problem(f"{path} belongs to uid {found.st_uid}, not to you.", ELSEWHERE)
        elif found.st_mode & 0o077:
            yield warning(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}).", f"chmod 700 {quoted}")


def files(scene: Scene) -> Iterator[Finding]:
    home = scene.home
    private = [home.database, home.search, home.outbox, home.daemon_json, home.daemon_lock, home.daemon_log]
    for path in filter(os.path.lexists, private):
        found, quoted = path.lstat(), shlex.quote(str(path))
        if not stat.S_ISREG(found.st_mode):
            yield problem(f"{path} is not a regular file.", f"mv {quoted} {quoted}.aside")
        elif found.st_uid != os.geteuid():
            yield problem(f"{path} belongs to uid {found.st_uid}, not to you.", ELSEWHERE)
        elif found.st_mode & 0o077:
            yield warning(f"{path} may be read by others.", f"chmod 600 {quoted}")


def token(scene: Scene) -> Iterator[Finding]:
    path = scene.home.token
    try:
        read_token(path)
    except FileNotFoundError:
        return  # the next start writes one
    except UnsafeHome as refusal:
        yield problem(refusal.message, f"rm {shlex.quote(str(path))}")
    else:
        yield ok("The token file is private.")


def tokens(scene: Scene) -> Iterator[Finding]:
    """Named tokens: with a file that cannot be trusted, none of them holds."""
    store, now = TokenStore(scene.home.tokens), scene.clock.now_us()
    try:
        over = [grant.name for grant in store.grants() if grant.is_over(now)]
    except UnsafeHome as refusal:
        quoted = shlex.quote(str(store.path))
        yield problem(f"{refusal.message} No named token holds.", f"ls -l {quoted}; mv {quoted} {quoted}.aside")
        return
    for name in over:
        yield warning(f"The token {name} is over.", f"claude-loop token revoke {name}")


def disk(scene: Scene) -> Iterator[Finding]:
    root = _existing(scene.home.root)
    volume = os.statvfs(root)
    free, quoted = volume.f_bavail * volume.f_frsize, shlex.quote(str(root))
    if volume.f_flag & os.ST_RDONLY:
        yield problem(f"{root} is on a file system that is mounted read-only.", f"findmnt --target {quoted}")
    elif free < NO_ROOM:
        yield problem(f"The disk of {root} is full; spooled events wait.", f"df -h {quoted}")
    elif volume.f_files and not volume.f_favail:
        yield problem(f"The file system of {root} can hold no more files.", f"df -i {quoted}")
    elif free < LITTLE_ROOM:
        yield warning(f"{megabytes(free)} are left on the disk of {root}.", f"df -h {quoted}")
    else:
        taken = _size(scene.home.database) + _size(scene.home.database.with_name("events.db-wal"))
        yield ok(f"{megabytes(free)} are free; the log takes {megabytes(taken)}.")


def log_file(scene: Scene) -> Iterator[Finding]:
    """By its first bytes alone: opening a database would make files beside it."""
    path = scene.home.database
    quoted = shlex.quote(str(path))
    if path.exists() and not path.is_file():  # a FIFO would be waited for
        yield problem(f"{path} is not a regular file.", f"mv {quoted} {quoted}.damaged")
        return
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    if not head:
        return  # made, and nothing written yet
    if not head.startswith(_MAGIC) or len(head) < 100:
        yield problem(f"{path} is not an SQLite database.", f"mv {quoted} {quoted}.damaged")
        return
    version = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 4])
    if version > len(STEPS):
        yield problem(
            f"{path} was written by a later version (schema {version}; this one knows {len(STEPS)}).",
            ELSEWHERE,
        )


def megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1_000_000_000 else f"{count / 1e6:.1f} MB"


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


CHECKS = {
    "home": directory,
    "home.file_system": file_system,
    "home.directories": parts,
    "home.files": files,
    "home.token": token,
    "home.tokens": tokens,
    "disk": disk,
    "log": log_file,
}

"""What a repository's own files tell, read without git: where it is, and what its reflogs say was committed.

A reflog says how each move of HEAD came about: a commit made here is told from one that was pulled, checked out or
rebased, whatever branch it is on.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from claude_loop.adopt.wrapped_runs import read_small_file

# Some thousand entries: more than happens between two looks.
_TAIL = 1024 * 1024
_ENTRY = re.compile(
    r"^(?P<old>[0-9a-f]{40}|[0-9a-f]{64}) (?P<new>[0-9a-f]{40}|[0-9a-f]{64}) .{0,1000}> (?P<at>\d{1,12}) [+-]\d{4}\t"
    r"(?P<how>commit(?: \((?:initial|amend|merge)\))?|cherry-pick|revert|am): (?P<subject>.*)$"
)


@dataclass(frozen=True, slots=True)
class Made:
    """A commit made in a work tree. ``amends``: the commit it stands in for. ``at``: milliseconds since the
    epoch."""

    commit_hash: str
    subject: str
    at: int
    branch: str | None
    amends: str | None


@dataclass(slots=True)
class WorkTree:
    """A work tree's own git directory, and how far its reflog has been read."""

    git_dir: Path
    _seen: tuple[int, int, int] | None = field(default=None)

    def news(self, since: int) -> list[Made]:
        """Commits made at or after ``since`` (milliseconds), in their order, some perhaps once more.

        Nothing while the file is as it was. Raises ``OSError``.
        """
        log_file = self.git_dir / "logs/HEAD"
        try:
            descriptor = os.open(log_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return []  # no commit yet
        try:
            status = os.fstat(descriptor)
            now = (status.st_ino, status.st_size, status.st_mtime_ns)
            if now == self._seen or not stat.S_ISREG(status.st_mode):
                return []
            # An entry's time has whole seconds, the file's is finer: a commit just before a run began is not its own.
            if self._seen is None and now[2] // 1_000_000 < since:
                self._seen = now
                return []
            # Grown: what is new, and the entry before. Rewritten by `git reflog expire`: its end again.
            grown = self._seen is not None and self._seen[0] == now[0] and self._seen[1] < now[1]
            begin = max(0, now[1] - _TAIL, self._seen[1] - 1 if grown and self._seen is not None else 0)
            text = os.pread(descriptor, _TAIL, begin).decode(errors="replace")
        finally:
            os.close(descriptor)
        whole, _, _ = text.rpartition("\n")
        if len(whole) + 1 == len(text):  # else git is writing: the rest comes with the next look
            self._seen = now
        return self._made(whole.split("\n"), since, now[2] // 1_000_000)

    def _made(self, lines: list[str], since: int, changed_at: int) -> list[Made]:
        """An entry has whole seconds; when the last one came, the file's own time says more exactly, and of others that
        of the commit's object, while it is a file of its own."""
        branch, objects = self._branch(), _common(self.git_dir) / "objects"
        found = []
        for number, line in enumerate(lines, 1):
            entry = _ENTRY.match(line)
            seconds = int(entry["at"]) if entry else 0
            if entry is None or seconds < since // 1000:
                continue
            last = number == len(lines) and changed_at // 1000 == seconds
            at = changed_at if last else _written_at(objects, entry["new"], seconds)
            # One of the very second in which a run began may have been just before it.
            if at is not None and at < since:
                continue
            amends = entry["old"] if entry["how"] == "commit (amend)" else None
            # The second is what the committer says, and may be of any year; the entry was written by now.
            at = min(seconds * 1000, changed_at) if at is None else at
            found.append(Made(entry["new"], entry["subject"][:500], at, branch, amends))
        return found

    def _branch(self) -> str | None:
        try:
            head = read_small_file(self.git_dir / "HEAD", 4096).decode(errors="replace").strip()
        except (OSError, ValueError):
            return None
        return head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None


@dataclass(slots=True)
class Repository:
    """The repository that holds a directory. One that is not ``ours`` anybody may have put there, say in `/tmp`."""

    top: Path
    git_dir: Path
    common: Path
    ours: bool

    @classmethod
    def around(cls, directory: Path) -> Repository | None:
        for folder in (directory, *directory.parents):
            try:
                if git_dir := _git_dir(folder / ".git"):
                    owners = {(folder / ".git").lstat().st_uid, git_dir.stat().st_uid}
                    return cls(folder, git_dir, _common(git_dir), owners == {os.geteuid()})
            except (OSError, ValueError):
                continue  # not readable, or something else of that name
        return None

    def added_work_trees(self, since: float) -> list[Path]:
        """Git directories of linked work trees that were made at or after ``since`` (seconds): others have a loop,
        or a person, of their own."""
        try:
            with os.scandir(self.common / "worktrees") as entries:
                made = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(path for path in made if path != self.git_dir and _made_at(path) >= since)


def _git_dir(marker: Path) -> Path | None:
    status = marker.stat()
    if stat.S_ISDIR(status.st_mode):
        return marker if (marker / "HEAD").is_file() else None
    text = read_small_file(marker, 4096).decode().strip()
    return (marker.parent / text.removeprefix("gitdir: ")).resolve() if text.startswith("gitdir: ") else None


def _common(git_dir: Path) -> Path:
    try:
        return (git_dir / read_small_file(git_dir / "commondir", 4096).decode().strip()).resolve()
    except FileNotFoundError:
        return git_dir


def _written_at(objects: Path, name: str, seconds: int) -> int | None:
    """When an object was written, in milliseconds since the epoch; None if unknown, or not about ``seconds``."""
    try:
        written = (objects / name[:2] / name[2:]).stat().st_mtime_ns // 1_000_000
    except OSError:
        return None  # packed
    return written if 0 <= written // 1000 - seconds <= 1 else None


def _made_at(git_dir: Path) -> float:
    """Git writes this file when it makes the work tree, and again only when the tree moves."""
    try:
        return (git_dir / "commondir").stat().st_mtime
    except OSError:
        return 0.0

"""Replacing a settings file that belongs to somebody else: whole or not at all, with its mode, through links, and so
that it can be put back byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from claude_loop.errors import SettingsFileRefused
from claude_loop.paths import Home, open_private

# No settings file of anybody's is longer; what is will not be read.
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file was before we changed it (None: it was not there), and the digest of what we made of it."""

    before: bytes | None
    after_digest: str
    made_directories: tuple[str, ...] = ()


class SettingsFile:
    """One file at ``path``, or where the link at ``path`` leads; backups are in the state directory."""

    def __init__(self, path: Path, home: Home) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))
        name = sha256(str(self.target).encode(errors="surrogateescape")).hexdigest()[:24]
        self.backup = home.root / "settings-backups" / f"{name}.json"

    def read(self) -> bytes | None:
        """What is in it; None if it is not there. Raises ``SettingsFileRefused``."""
        try:
            status = os.stat(self.target)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise SettingsFileRefused(f"{self.path} is not a regular file.")
        if status.st_size > MAX_BYTES:
            raise SettingsFileRefused(f"{self.path} has {status.st_size} bytes: that is no settings file.")
        return self.target.read_bytes()

    def replace(self, expected: bytes | None, content: bytes | None) -> tuple[str, ...]:
        """Put ``content`` in the place of ``expected``; None removes the file. The directories that had to be made.

        Raises ``SettingsFileRefused`` when it is read-only, or is not any more what it was.
        """
        mode = self._insist_writable()
        made = self._make_directories()
        temporary = self.target.with_name(f".{self.target.name}.claude-loop-{os.getpid()}")
        try:
            if content is not None:
                _write(temporary, content, mode)
                _keep_owner(temporary, self.target)
            if self.read() != expected:
                raise SettingsFileRefused(f"{self.path} was changed by somebody else meanwhile.")
            if content is None:
                self.target.unlink(missing_ok=True)
            else:
                os.replace(temporary, self.target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        return made

    def _insist_writable(self) -> int:
        try:
            mode = stat.S_IMODE(os.stat(self.target).st_mode)
        except FileNotFoundError:
            return 0o600
        # Root may write anything; that a file says it is not to be written counts all the same.
        if not mode & 0o222 or not os.access(self.target, os.W_OK):
            raise SettingsFileRefused(f"{self.path} is read-only.", hint="Make it writable, or add the hooks yourself.")
        return mode

    def _make_directories(self) -> tuple[str, ...]:
        missing = []
        directory = self.target.parent
        while not directory.exists():
            missing.append(str(directory))
            directory = directory.parent
        if not os.access(directory, os.W_OK):
            raise SettingsFileRefused(f"{directory} is read-only.", hint="Make it writable, or add the hooks yourself.")
        self.target.parent.mkdir(parents=True, exist_ok=True)
        return tuple(missing)

    # -- what was there before -----------------------------------------------------------------------------------

    def keep(self, kept: Kept) -> None:
        """Remember what was there, privately: settings may hold secrets."""
        self.backup.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = None if kept.before is None else kept.before.decode(errors="surrogateescape")
        body = {
            "path": str(self.path),
            "before": before,
            "after_digest": kept.after_digest,
            "made_directories": list(kept.made_directories),
        }
        temporary = self.backup.with_suffix(".tmp")
        _write(temporary, json.dumps(body).encode(), 0o600)
        os.replace(temporary, self.backup)

    def kept(self) -> Kept | None:
        """What is remembered, if that can be read."""
        try:
            with os.fdopen(open_private(self.backup, os.O_RDONLY), "rb") as file:
                body = json.load(file)
            before = body["before"]
            kept = None if before is None else before.encode(errors="surrogateescape")
            return Kept(kept, body["after_digest"], tuple(body["made_directories"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # then our entries are taken out one by one

    def forget(self, made_directories: tuple[str, ...]) -> None:
        """After it was put back: the backup, and directories that were made for it and are empty."""
        self.backup.unlink(missing_ok=True)
        for directory in made_directories:
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _write(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _keep_owner(temporary: Path, target: Path) -> None:
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        try:
            os.chown(temporary, status.st_uid, status.st_gid)
        except PermissionError:
            raise SettingsFileRefused(f"{target} belongs to somebody else.") from None

"""The state directory: where everything of one user's claude-loop lives. Standard library only, for quick commands."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_loop.errors import LinkedDirectory, UnsafeHome

# File systems on which SQLite's WAL (shared memory between processes) is not safe.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"}
)


@dataclass(frozen=True, slots=True)
class Home:
    """Paths inside one state directory. Nothing is created until ``prepare``."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """``CLAUDE_LOOP_HOME``, else ``$XDG_STATE_HOME/claude-loop``, else ``~/.local/state/claude-loop``."""
        explicit = environ.get("CLAUDE_LOOP_HOME")
        if explicit:
            return cls(Path(explicit).absolute())
        state = environ.get("XDG_STATE_HOME")
        base = Path(state) if state and os.path.isabs(state) else Path.home() / ".local" / "state"
        return cls(base / "claude-loop")

    @property
    def database(self) -> Path:
        return self.root / "events.db"

    @property
    def search(self) -> Path:
        """The index of words; it can always be made again from ``database``."""
        return self.root / "search.db"

    @property
    def spool(self) -> Path:
        """Live spool files only: a path unit watches that this directory is not empty."""
        return self.root / "spool"

    @property
    def leaving(self) -> Path:
        """Spool files on their way out: renamed, waiting until nobody has them open for writing."""
        return self.root / "leaving"

    @property
    def rejected(self) -> Path:
        """What lay in ``spool`` but could not be read: moved here, never deleted."""
        return self.root / "rejected"

    @property
    def flush(self) -> Path:
        """``flush/<stem>.<n>`` asks to be removed once line n of that spool file is committed."""
        return self.root / "flush"

    @property
    def runs(self) -> Path:
        """A directory for each run of `claude-loop run`: who it is, and its output until the daemon has read it."""
        return self.root / "runs"

    @property
    def outbox(self) -> Path:
        """What notifications were sent, and are to be."""
        return self.root / "notify.db"

    @property
    def receipts(self) -> Path:
        """What became of the notifications under way."""
        return self.root / "notify"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def tokens(self) -> Path:
        """Named tokens: digests, never the tokens themselves."""
        return self.root / "tokens.json"

    @property
    def socket(self) -> Path:
        return self.root / "sock"

    @property
    def daemon_json(self) -> Path:
        return self.root / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def up_lock(self) -> Path:
        return self.root / "up.lock"

    @property
    def daemon_log(self) -> Path:
        return self.root / "daemon.log"

    def prepare(self) -> None:
        """Create the directories, mode 0700.

        Raises ``UnsafeHome`` when the directory is not ours, open to others in a way we may not mend,
        or on a network file system; ``LinkedDirectory`` when one inside it is a symbolic link.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _insist_private(self.root)
            for directory in (self.spool, self.leaving, self.rejected, self.flush, self.runs):
                if directory.is_symlink():
                    raise LinkedDirectory(f"{directory} is a symbolic link.")
                directory.mkdir(mode=0o700, exist_ok=True)
                _insist_private(directory)
        except (FileExistsError, NotADirectoryError) as failure:
            raise UnsafeHome(f"{failure.filename} is not a directory.") from None
        except PermissionError as failure:
            raise UnsafeHome(f"{failure.filename} cannot be created or used: permission denied.") from None
        kind = file_system_type(self.root)
        if kind in NETWORK_FILE_SYSTEMS:
            raise UnsafeHome(f"{self.root} is on a network file system ({kind}), where SQLite's WAL is not safe.")


def _insist_private(directory: Path) -> None:
    status = directory.lstat()
    if stat.S_ISLNK(status.st_mode) and directory.stat().st_uid == os.geteuid():
        status = directory.stat()  # our own link to our own directory: a moved state directory
    if status.st_uid != os.geteuid():
        raise UnsafeHome(f"{directory} belongs to uid {status.st_uid}, not to you.")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def open_private(path: Path, flags: int) -> int:
    """Open a state file 0600, refusing a planted symlink. Returns the descriptor; raises ``OSError``."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def make_private(path: Path) -> None:
    """Let there be a state file, 0600 from its first byte, and no planted symlink. Raises ``OSError``.

    One that is there is not opened: to close it again would take from whatever else this process has open of it all
    locks on it, SQLite's among them. See fcntl(2), "Record locks", and https://sqlite.org/howtocorrupt.html.
    """
    try:
        os.close(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def file_system_type(path: Path) -> str | None:
    """The type of the file system that holds ``path``, from the mount table; None where there is no such table."""
    try:
        table = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in table.splitlines():
        head, _, tail = line.partition(" - ")
        if head.split(" ", 3)[2] == wanted:
            return tail.split(" ", 1)[0]
    return None


def is_locked(path: Path) -> bool:
    """Whether some process holds a lock on this file; a file that is not there is not locked."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two processes that ask at the same time do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

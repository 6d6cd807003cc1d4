"""The token file: the one secret that lets a caller in from anywhere. Standard library only, for quick commands."""

from __future__ import annotations

import base64
import errno
import os
import re
import stat
from pathlib import Path

from claude_loop.clock import Clock
from claude_loop.errors import UnsafeHome
from claude_loop.paths import open_private

# The prefix lets redaction and secret scanners recognise a token that strayed into a log.
PREFIX = "clt_"
_TOKEN_BYTES = 32
# Somebody may bring a token of their own; what is shorter than this could be guessed.
_ACCEPTED = re.compile(r"[\x21-\x7e]{32,512}")
_MEND = "Delete the file and start the daemon again: it writes a new token, and clients read that one."


def ensure_token(path: Path, clock: Clock) -> str:
    """The token in ``path``; 256 fresh bits if there is no such file. Raises ``UnsafeHome`` like ``read_token``."""
    try:
        return read_token(path)
    except FileNotFoundError:
        pass
    token = new_token(clock)
    # Written aside and linked, so that the name never shows a file that is still empty.
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    descriptor = open_private(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    except FileExistsError:
        return read_token(path)
    finally:
        aside.unlink()
    return token


def new_token(clock: Clock) -> str:
    """256 random bits."""
    return PREFIX + base64.urlsafe_b64encode(clock.random_bytes(_TOKEN_BYTES)).rstrip(b"=").decode()


def read_token(path: Path) -> str:
    """The token in ``path``.

    Raises ``FileNotFoundError``, and ``UnsafeHome`` when the file is a link, belongs to somebody else, may be read by
    others, or holds no usable token.
    """
    descriptor = open_insisting(path, _MEND)
    try:
        text = os.read(descriptor, 1024).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    if not _ACCEPTED.fullmatch(text):
        raise UnsafeHome(f"{path} holds no token of 32 to 512 characters.", hint=_MEND)
    return text


def open_insisting(path: Path, mend: str) -> int:
    """The descriptor of a file that is ours alone. Raises ``FileNotFoundError``, and ``UnsafeHome`` with ``mend``."""
    try:
        # O_NONBLOCK: a planted named pipe must not hang us.
        descriptor = open_private(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as failure:
        if failure.errno == errno.ELOOP:
            raise UnsafeHome(f"{path} is a symbolic link.", hint=mend) from None
        raise UnsafeHome(f"{path} cannot be read: {failure.strerror}.", hint=mend) from failure
    try:
        _insist_private(path, os.fstat(descriptor), mend)
    except UnsafeHome:
        os.close(descriptor)
        raise
    return descriptor


def _insist_private(path: Path, status: os.stat_result, mend: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeHome(f"{path} is not a file.", hint=mend)
    if status.st_uid != os.geteuid():
        raise UnsafeHome(f"{path} belongs to uid {status.st_uid}, not to you.", hint=mend)
    if status.st_mode & 0o077:
        raise UnsafeHome(f"{path} may be read by others (mode {status.st_mode & 0o777:04o}).", hint=mend)

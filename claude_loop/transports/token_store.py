"""Named tokens: each with scopes of its own, an end if it has one, and a name to revoke it by.

``tokens.json`` keeps a digest of each, so whoever reads the file has no token. A token is 256 random bits: a plain
digest of it cannot be guessed back. Standard library only, for quick commands.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from claude_loop.clock import Clock, parse_time, rfc3339
from claude_loop.errors import InvalidRequest, NotFound, TokenExists, UnsafeHome
from claude_loop.paths import open_private
from claude_loop.transports.token_file import new_token, open_insisting

# What a token may be given. Never admin, which makes links for browsers and so more than one token's worth.
GIVEN_SCOPES = ("read", "emit", "control")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_MOST_BYTES = 1024 * 1024
_MEND = "Move it away: the tokens in it are void then; `claude-loop token create` makes others."


@dataclass(frozen=True, slots=True)
class Grant:
    """What is kept of a token. Times are RFC 3339; ``expires_at`` is None for one without end."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None = None

    @property
    def expires_us(self) -> int | None:
        return None if self.expires_at is None else parse_time(self.expires_at)

    def is_over(self, now_us: int) -> bool:
        end = self.expires_us
        return end is not None and end <= now_us

    @classmethod
    def parse(cls, raw: Any) -> Grant:
        """Raises ``KeyError``, ``TypeError`` or ``ValueError``."""
        end = raw["expires_at"]
        grant = cls(
            str(raw["name"]), str(raw["sha256"]), tuple(raw["scopes"]), str(raw["created_at"]), end and str(end)
        )
        if not set(grant.scopes) <= set(GIVEN_SCOPES) or len(bytes.fromhex(grant.sha256)) != 32:
            raise ValueError("no token of ours")
        grant.is_over(0)
        return grant


class TokenStore:
    """The file of named tokens. Changes are made one at a time, and seen whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def grants(self) -> list[Grant]:
        """All of them, those that are over too. Raises ``UnsafeHome`` when the file is not ours alone, or damaged."""
        try:
            descriptor = open_insisting(self.path, _MEND)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_MOST_BYTES)
        try:
            return [Grant.parse(raw) for raw in json.loads(content)["tokens"]]
        except (ValueError, KeyError, TypeError):
            raise UnsafeHome(f"{self.path} is not a file of tokens.", hint=_MEND) from None

    def create(
        self, name: str | None, scopes: Collection[str], expires_us: int | None, clock: Clock
    ) -> tuple[str, Grant]:
        """A new token, which nobody can be shown again, and what is kept of it. Without a name it gets a free one.

        Raises ``InvalidRequest`` for a name that cannot be one, ``TokenExists``, ``UnsafeHome``.
        """
        if name is not None and _NAME.fullmatch(name) is None:
            raise InvalidRequest(
                f"“{name}” cannot be the name of a token.", hint="Use a-z, 0-9, `_`, `.` and `-`, at most 40 of them."
            )
        token = new_token(clock)
        with self._changing() as grants:
            taken = {grant.name for grant in grants}
            if name in taken:
                raise TokenExists(f"There is a token named {name}.")
            grant = Grant(
                name or next(free for n in range(1, len(taken) + 2) if (free := f"token-{n}") not in taken),
                digest_of(token),
                tuple(scope for scope in GIVEN_SCOPES if scope in scopes),
                rfc3339(clock.now_us() // 1000),
                None if expires_us is None else rfc3339(expires_us // 1000),
            )
            grants.append(grant)
        return token, grant

    def revoke(self, name: str) -> None:
        """Raises ``NotFound``, ``UnsafeHome``."""
        with self._changing() as grants:
            kept = [grant for grant in grants if grant.name != name]
            if len(kept) == len(grants):
                raise NotFound(f"There is no token named {name}.", hint="`claude-loop token list` shows their names.")
            grants[:] = kept

    @contextmanager
    def _changing(self) -> Iterator[list[Grant]]:
        """The list, to be changed in place inside the block; written at its end."""
        lock = open_private(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            grants = self.grants()
            yield grants
            self._write(grants)
        finally:
            os.close(lock)

    def _write(self, grants: list[Grant]) -> None:
        aside = self.path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        with os.fdopen(open_private(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
            json.dump({"tokens": [asdict(grant) for grant in grants]}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.path)


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()

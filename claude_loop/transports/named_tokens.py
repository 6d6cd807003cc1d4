"""The daemon's view of the named tokens: new and revoked ones count at once, and what a revoked one has open ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, cast

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import UnsafeHome
from claude_loop.transports.auth import Principal, Scope
from claude_loop.transports.token_store import Grant, TokenStore, digest_of

log = structlog.get_logger(__name__)

# How long a stream may outlive its token.
LOOK_SECONDS = 0.5


class Cutting(Protocol):
    """A transport with connections that stay open."""

    def cut_off(self, is_void: Callable[[Principal], bool]) -> None:
        """End the connections of those who are nobody any more."""


class NamedTokens:
    """Looks into the file whenever it has changed. A file that cannot be trusted grants nothing."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._store = TokenStore(path)
        self._clock = clock
        self._seen: tuple[int, ...] | None = None
        self._grants: dict[str, Grant] = {}
        self._names: dict[str, Grant] = {}
        self._was_used = asyncio.Event()

    def principal_of(self, token: str) -> Principal | None:
        """The principal of a token that holds; None for anything else."""
        self._renew()
        # A look-up by digest: the time it takes tells nothing that helps to find a token.
        grant = self._grants.get(digest_of(token))
        if grant is None or grant.is_over(self._clock.now_us()):
            return None
        self._was_used.set()
        return Principal("token", frozenset(cast("Iterable[Scope]", grant.scopes)), _name(grant))

    def is_void(self, principal: Principal) -> bool:
        """Whether the token that made somebody this principal has been revoked, or is over."""
        if principal.kind != "token" or not principal.name:
            return False
        self._renew()
        grant = self._names.get(principal.name)
        return grant is None or grant.is_over(self._clock.now_us())

    async def watch(self, transports: Iterable[Cutting]) -> None:
        """End what void tokens have open, until cancelled. Every time anew: a connection may be opening meanwhile."""
        await self._was_used.wait()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for transport in transports:
                transport.cut_off(self.is_void)

    def _renew(self) -> None:
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            grants = self._store.grants()
        except (UnsafeHome, OSError) as failure:
            log.warning("the named tokens cannot be read, and none holds", reason=getattr(failure, "message", failure))
            grants = []
        self._grants = {grant.sha256: grant for grant in grants}
        self._names = {_name(grant): grant for grant in grants}

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.lstat(self._store.path)
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid)


def _name(grant: Grant) -> str:
    """A token made anew under an old name is somebody else."""
    return f"{grant.name}#{grant.sha256[:8]}"

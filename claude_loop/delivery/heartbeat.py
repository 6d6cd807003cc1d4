"""A sign of life to the outside: an address fetched while all is well, so that silence is noticed by somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import structlog

from claude_loop.clock import Clock, rfc3339
from claude_loop.settings import HeartbeatSettings

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0


class Heartbeat:
    """``is_well`` says whether the daemon does its work; while it does not, nothing is sent."""

    def __init__(self, settings: HeartbeatSettings, is_well: Callable[[], bool], clock: Clock) -> None:
        self._url = settings.url.get_secret_value()
        self._every = settings.every
        self._is_well = is_well
        self._clock = clock
        self._last_at: int | None = None
        self._reason = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(self._every)

    async def beat(self) -> None:
        if not self._is_well():
            self._note("withheld: the daemon is unhealthy")
            return
        timeout = aiohttp.ClientTimeout(total=min(ANSWER_SECONDS, self._every))
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url) as answer:
                answered = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
            self._note(type(failure).__name__)  # its text may hold the address
            return
        if answered >= 400:
            self._note(f"status {answered}")
            return
        self._last_at = self._clock.now_us() // 1000
        self._note("")

    def _note(self, reason: str) -> None:
        if reason and reason != self._reason:
            log.warning("no heartbeat", reason=reason)
        self._reason = reason

    def report(self) -> dict[str, Any]:
        return {"last_at": None if self._last_at is None else rfc3339(self._last_at), "reason": self._reason}

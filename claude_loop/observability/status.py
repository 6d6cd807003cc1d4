"""What the daemon says about itself: the short answer of ``/health`` and the long one of ``/status``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Protocol

from typing_extensions import TypedDict

from claude_loop.clock import Clock, rfc3339
from claude_loop.errors import ClaudeLoopError
from claude_loop.hub import Hub
from claude_loop.observability.clients import Clients, subscriptions_by_prd, total
from claude_loop.observability.health import Health
from claude_loop.observability.published import Published
from claude_loop.settings import RetentionSettings


@dataclass(frozen=True, slots=True)
class Identity:
    """Which daemon this is. ``started_at`` is milliseconds since the epoch; ``home`` is empty without one."""

    version: str
    pid: int
    url: str
    home: str
    started_at: int


class SpoolSource(Protocol):
    """The intake that drains the spool."""

    def statistics(self) -> Mapping[str, Any]:
        """Counts and backlog, and ``rejected_lines``: the last lines that were no events, with their reasons."""


class NotifySource(Protocol):
    """What sends notifications and the heartbeat."""

    async def report(self) -> Mapping[str, Any]:
        """The channels with what waits, was sent and could not be, the latest dead letters, and the heartbeat."""


class HealthAnswer(TypedDict):
    """``reason`` and ``error`` say what is wrong; they are absent while nothing is. A caller without the right to read
    gets ``status`` alone."""

    status: Literal["healthy", "unhealthy"]
    version: NotRequired[str]
    uptime_seconds: NotRequired[float]
    clients: NotRequired[int]
    subscriptions: NotRequired[int]
    reason: NotRequired[str]
    error: NotRequired[dict[str, Any]]


class StatusAnswer(TypedDict):
    """``subscriptions`` counts readers by the PRD they asked for; ``tasks`` background tasks by owner."""

    status: Literal["healthy", "unhealthy"]
    reason: str | None
    version: str
    pid: int
    url: str
    home: str
    started_at: str
    uptime_seconds: float
    clients: int
    subscriptions: dict[str, int]
    log: dict[str, Any]
    spool: dict[str, Any] | None
    notify: dict[str, Any] | None
    published: dict[str, Any]
    transports: dict[str, dict[str, Any]]
    tasks: dict[str, int]


class Status:
    """Gathers the answers from the parts. Nothing here counts anything itself."""

    def __init__(
        self,
        identity: Identity,
        hub: Hub,
        health: Health,
        clients: Clients,
        published: Published,
        *,
        clock: Clock,
        retention: RetentionSettings,
        spool: SpoolSource | None = None,
        notify: NotifySource | None = None,
    ) -> None:
        self.identity = identity
        self._hub = hub
        self._health = health
        self._clients = clients
        self._published = published
        self._clock = clock
        self._retention = retention
        self._spool = spool
        self._notify = notify

    def health(self) -> HealthAnswer:
        statistics = self._clients.statistics()
        problem = self._health.problem
        answer: HealthAnswer = {
            "status": "healthy" if problem is None else "unhealthy",
            "version": self.identity.version,
            "uptime_seconds": self._uptime(),
            "clients": total(statistics, "clients"),
            "subscriptions": total(statistics, "subscriptions"),
        }
        if problem is not None:
            answer["reason"] = problem.message
            answer["error"] = problem.as_dict()
        return answer

    async def report(self) -> StatusAnswer:
        """Raises ``LoadError`` when the log cannot be asked."""
        identity, problem = self.identity, self._health.problem
        statistics = self._clients.statistics()
        return {
            "status": "healthy" if problem is None else "unhealthy",
            "reason": None if problem is None else problem.message,
            "version": identity.version,
            "pid": identity.pid,
            "url": identity.url,
            "home": identity.home,
            "started_at": rfc3339(identity.started_at),
            "uptime_seconds": self._uptime(),
            "clients": total(statistics, "clients"),
            "subscriptions": subscriptions_by_prd(statistics),
            "log": await self._log(),
            "spool": None if self._spool is None else dict(self._spool.statistics()),
            "notify": None if self._notify is None else dict(await self._notify.report()),
            "published": self._published.statistics(),
            "transports": statistics,
            "tasks": _tasks_by_owner(),
        }

    async def _log(self) -> dict[str, Any]:
        state, failure = self._hub.state, self._hub.log.failure
        return {
            "epoch": state.epoch,
            "first": state.first,
            "head": state.head,
            "cursor": str(state.head_cursor),
            "failure": None if failure is None else failure.as_dict(),
            "retention": self._retention.model_dump(),
            **await self._measured(),
        }

    async def _measured(self) -> dict[str, Any]:
        try:
            return await self._hub.log.statistics()
        except ClaudeLoopError:
            if self._hub.log.failure is None:
                raise
            return {}  # what is wrong is told already, and the rest of the report is wanted now most of all

    def _uptime(self) -> float:
        return round(max(0, self._clock.now_us() // 1000 - self.identity.started_at) / 1000, 3)


def _tasks_by_owner() -> dict[str, int]:
    # Owned tasks are named owner/task; the others belong to libraries.
    owners = Counter(name.partition("/")[0] for task in asyncio.all_tasks() if "/" in (name := task.get_name()))
    return dict(sorted(owners.items()))

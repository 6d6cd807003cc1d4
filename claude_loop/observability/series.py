"""The last hour in figures, for charts: one sample every ten seconds, kept in memory only."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from typing_extensions import TypedDict

from claude_loop.clock import Clock, until_tick
from claude_loop.errors import ClaudeLoopError
from claude_loop.hub import Hub
from claude_loop.observability.clients import Clients, total
from claude_loop.observability.published import Published
from claude_loop.observability.status import SpoolSource

log = structlog.get_logger(__name__)

STEP_SECONDS = 10
MINUTES = 60
_SAMPLES = MINUTES * 60 // STEP_SECONDS
_STATM = Path("/proc/self/statm")


class Figures(TypedDict):
    """Each list has one value a sample, null where there was nothing to measure."""

    events_per_second: list[float | None]
    commit_ms_p50: list[float | None]
    commit_ms_p99: list[float | None]
    fanout_ms_p99: list[float | None]
    clients: list[int | None]
    spool_backlog_bytes: list[int | None]
    rejected_total: list[int | None]
    log_events: list[int | None]
    log_bytes: list[int | None]
    memory_bytes: list[int | None]


class SeriesAnswer(TypedDict):
    """``at`` are the moments of the samples, in milliseconds, oldest first; ``step_ms`` is the time between two."""

    step_ms: int
    at: list[int]
    series: Figures


class Series:
    """Takes the samples. ``fanout_p99`` gives the slow end of the deliveries since it was last asked, in milliseconds;
    None if there were none."""

    def __init__(
        self,
        hub: Hub,
        clients: Clients,
        published: Published,
        clock: Clock,
        *,
        fanout_p99: Callable[[], float | None],
        spool: SpoolSource | None = None,
    ) -> None:
        self._hub = hub
        self._clients = clients
        self._published = published
        self._clock = clock
        self._fanout_p99 = fanout_p99
        self._spool = spool
        self._samples: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_SAMPLES)
        self._before = (clock.monotonic(), hub.state.head)
        self._commits: int | None = None

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.sample()
            await asyncio.sleep(until_tick(loop.time(), STEP_SECONDS))

    async def sample(self) -> None:
        try:
            figures = await self._log_figures()
        except (ClaudeLoopError, OSError) as failure:  # the other figures are wanted now most of all
            log.warning("the log could not be measured", reason=str(failure))
            figures = {}
        spool = {} if self._spool is None else self._spool.statistics()
        figures |= {
            "events_per_second": self._rate(),
            "fanout_ms_p99": self._fanout_p99(),
            "clients": total(self._clients.statistics(), "clients"),
            "spool_backlog_bytes": spool.get("backlog_bytes"),
            "rejected_total": self._published.refusals.total() + spool.get("rejected", 0),
            "memory_bytes": memory_bytes(),
        }
        self._samples.append((self._clock.now_us() // 1000, figures))

    def _rate(self) -> float | None:
        (then, head_then), (now, head) = self._before, (self._clock.monotonic(), self._hub.state.head)
        self._before = now, head
        return round((head - head_then) / (now - then), 2) if now > then else None

    async def _log_figures(self) -> dict[str, Any]:
        measured = await self._hub.log.statistics()
        commits, before = measured.get("commits"), self._commits
        self._commits = commits
        quick = measured.get("commit_ms") if commits != before else None
        return {
            "commit_ms_p50": None if quick is None else quick["p50"],
            "commit_ms_p99": None if quick is None else quick["p99"],
            "log_events": measured["events"],
            "log_bytes": measured["bytes"],
        }

    def answer(self, minutes: int) -> SeriesAnswer:
        """The samples of the last ``minutes``."""
        since = self._clock.now_us() // 1000 - minutes * 60_000
        samples = [sample for sample in self._samples if sample[0] >= since]
        names = Figures.__annotations__
        columns: Any = {name: [figures.get(name) for _, figures in samples] for name in names}
        return {"step_ms": STEP_SECONDS * 1000, "at": [at for at, _ in samples], "series": columns}


def memory_bytes() -> int | None:
    """What this process holds in memory; None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None

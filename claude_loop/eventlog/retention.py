"""Keeps the log within its retention, in steps so small that no publisher notices."""

from __future__ import annotations

import asyncio

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError
from claude_loop.eventlog.base import EventLog
from claude_loop.heap import give_back

log = structlog.get_logger(__name__)

# About two milliseconds of the writer's time.
STEP_EVENTS = 500
# Between steps the writer is left to the publishers for several times as long.
PAUSE_SECONDS = 0.02
ROUND_SECONDS = 60.0
_DAY_SECONDS = 86_400.0


class Retention:
    """``days`` and ``events`` bound what is kept, whichever is reached first."""

    def __init__(self, log_: EventLog, clock: Clock, days: float, events: int) -> None:
        self._log = log_
        self._days = days
        self._events = events
        self._wall = _BelievedClock(clock)

    async def prune(self) -> int:
        """Prune what is beyond retention now. Returns the number of events forgotten. Raises ``LoadError``."""
        keep_from = round((self._wall.seconds() - self._days * _DAY_SECONDS) * 1000)
        gone = 0
        while step := await self._log.prune(keep_from, self._events, STEP_EVENTS):
            gone += step
            await asyncio.sleep(PAUSE_SECONDS)
        return gone

    async def run(self) -> None:
        """Prune every minute until cancelled."""
        while True:
            try:
                gone = await self.prune()
                if gone:
                    log.info("events beyond retention forgotten", events=gone)
                    await asyncio.to_thread(give_back)
            except ClaudeLoopError as failure:  # the writer reports it; pruning can wait for the next round
                log.warning("could not prune", code=failure.code)
            await asyncio.sleep(ROUND_SECONDS)


class _BelievedClock:
    """The wall clock, but not at once when it jumps ahead: by one that is wrong for an hour, all would be too old."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall, self._steady = self._read()
        self._ahead_since: float | None = None

    def seconds(self) -> float:
        """Since the epoch. What was ahead of a steady clock for a day is believed; so is a clock set back."""
        wall, steady = self._read()
        expected = self._wall + (steady - self._steady)
        if wall <= expected + ROUND_SECONDS:
            self._ahead_since = None
        else:
            self._ahead_since = steady if self._ahead_since is None else self._ahead_since
            if steady - self._ahead_since < _DAY_SECONDS:
                return expected
        self._wall, self._steady = wall, steady
        return wall

    def _read(self) -> tuple[float, float]:
        return self._clock.now_us() / 1e6, self._clock.monotonic()

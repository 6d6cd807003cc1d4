"""One channel at work: it takes what is due from the outbox, a message at a time, and waits longer after each failure.

Every target has a channel of its own. One that hangs, refuses or is down holds up itself alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from claude_loop.clock import Clock, parse_hours, rfc3339
from claude_loop.delivery.dispatch import Outcome, Target
from claude_loop.delivery.messages import Message, message_id
from claude_loop.delivery.outbox import Outbox
from claude_loop.delivery.quiet import quiet_until
from claude_loop.delivery.words import link, resolution, sentence, title

log = structlog.get_logger(__name__)

# After the first failure, and at most.
FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0
# The clock may be set and the machine may sleep: what is due is looked for this often at least, in seconds.
LONGEST_SLEEP = 30.0
STORAGE_RETRY = 5.0
# Setting the clock back by more than this many milliseconds moves all that waits.
_SET_BACK = 60_000


class Sends(Protocol):
    async def send(self, target: Target, message: dict[str, Any]) -> Outcome: ...

    async def found(self, message_id: str, seconds: float) -> Outcome | None: ...

    def settled(self, message_id: str) -> None: ...


class Channel:
    """``ask`` runs something with the outbox in its thread; ``told`` is called when there is something for the log."""

    def __init__(
        self,
        target: Target,
        ask: Callable[[Callable[[Outbox], Any]], Awaitable[Any]],
        dispatch: Sends,
        clock: Clock,
        monitor_url: Callable[[], str],
        told: Callable[[], None],
        *,
        longest_sleep: float = LONGEST_SLEEP,
    ) -> None:
        self.target = target
        self._ask = ask
        self._dispatch = dispatch
        self._clock = clock
        self._monitor_url = monitor_url
        self._told = told
        self._longest_sleep = longest_sleep
        self._hours = parse_hours(target.settings.quiet_hours)
        self._news = asyncio.Event()
        self._failures = 0
        self._resume_at = 0  # after a failure nothing is sent before
        self._looked_at = (self._now(), clock.monotonic())
        self.last_sent_at: int | None = None
        self.last_reason = ""
        self.failing_since: int | None = None

    def wake(self) -> None:
        """There may be something new in the outbox."""
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        settled = False
        while True:
            try:
                if not settled:
                    await self._settle_interrupted()
                    settled = True
                await self._step()
            except (sqlite3.Error, OSError) as failure:
                log.warning("notifications cannot be stored", channel=self.target.name, reason=type(failure).__name__)
                await asyncio.sleep(STORAGE_RETRY)

    async def _settle_interrupted(self) -> None:
        """What a crash left half done: the courier's receipt tells; without one it is sent again, under the same id."""
        for message in await self._ask(lambda outbox: outbox.left_sending(self.target.name)):
            found = await self._dispatch.found(message.message_id, self.target.settings.time_limit)
            await self._settle(message, found or Outcome(sent=False, reason="interrupted"), count=found is not None)

    async def _step(self) -> None:
        """Send one message, or wait until there may be one to send."""
        self._news.clear()
        now = await self._follow_clock()
        message = None
        if now >= self._resume_at:
            message = await self._ask(lambda outbox: outbox.due(self.target.name, now))
        if message is None:
            await self._wait(now)
            return
        quiet = None if self._is_urgent(message) else quiet_until(self._hours, now)
        if quiet is not None:
            await self._ask(lambda outbox: outbox.postpone(message, quiet))
            return
        if not await self._ask(lambda outbox: outbox.sending(message, now)):
            return  # its cause has just ended
        replaced = [] if message.phase == "resolved" else await self._ask(lambda outbox: outbox.replaced_by(message))
        await self._settle(message, await self._dispatch.send(self.target, self._composed(message, now, replaced)))

    async def _follow_clock(self) -> int:
        """The present. What waits would wait until a clock that was set back has caught up: it is moved along."""
        now, steady = self._now(), self._clock.monotonic()
        back = round((steady - self._looked_at[1]) * 1000) - (now - self._looked_at[0])
        self._looked_at = now, steady
        if back > _SET_BACK:
            self._resume_at -= back
            await self._ask(lambda outbox: outbox.advance(self.target.name, back))
        return now

    async def _wait(self, now: int) -> None:
        due = await self._ask(lambda outbox: outbox.next_due_at(self.target.name))
        seconds = self._longest_sleep
        if due is not None:
            seconds = min(seconds, max(0.0, (max(due, self._resume_at) - now) / 1000))
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _settle(self, message: Message, outcome: Outcome, *, count: bool = True) -> None:
        now, settings = self._now(), self.target.settings
        if outcome.sent:
            repeat_ms = round(settings.repeat_minutes * 60_000)
            await self._ask(lambda outbox: outbox.sent(message, now, repeat_ms, settings.repeat_times))
            self._failures, self._resume_at, self.failing_since = 0, 0, None
            self.last_sent_at, self.last_reason = now, ""
        else:
            again_at = self._after_failure(outcome.reason, now) if count else now
            await self._ask(lambda outbox: outbox.failed(message, outcome.reason, now, again_at))
        self._dispatch.settled(message.message_id)
        self._told()

    def _after_failure(self, reason: str, now: int) -> int:
        wait = min(FIRST_WAIT * 3.0**self._failures, LONGEST_WAIT)
        # Up to a fifth more, so that channels that failed together do not all come back together.
        wait *= 1 + self._clock.random_bytes(1)[0] / 1280
        self._failures = min(self._failures + 1, 10)
        self._resume_at = now + round(wait * 1000)
        self.last_reason = reason
        self.failing_since = self.failing_since or now
        log.warning("a notification was not taken", channel=self.target.name, reason=reason, again_in=round(wait))
        return self._resume_at

    def _is_urgent(self, message: Message) -> bool:
        return message.condition.kind in self.target.settings.urgent

    def _composed(self, message: Message, now: int, replaced: list[str]) -> dict[str, Any]:
        condition, resolved = message.condition, message.phase == "resolved"
        return {
            "message_id": message.message_id,
            # The same for all that is said of one cause: who can take back what was shown finds it by this.
            "cause_id": message_id(condition, message.channel, 0, "alert"),
            "replaces": " ".join(replaced),
            "channel": self.target.name,
            "kind": condition.kind,
            "phase": message.phase,
            "urgency": "urgent" if self._is_urgent(message) else "normal",
            "title": title(condition, resolved=resolved),
            "text": resolution(condition, now) if resolved else sentence(condition, now),
            "url": link(self._monitor_url(), condition),
            "project": condition.project,
            "prd_id": condition.prd_id,
            "run_id": condition.run_id,
            "story_id": condition.story_id,
            "session_id": condition.session_id,
            "since": rfc3339(condition.since),
            "step": message.step,
            "attempt": message.attempts + 1,
        }

    def _now(self) -> int:
        return self._clock.now_us() // 1000

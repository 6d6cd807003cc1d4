"""Putting PRDs away, and forgetting them: what a person asks for becomes an event, and what follows from it is done."""

from __future__ import annotations

import asyncio

import structlog

from claude_loop.clock import Clock
from claude_loop.errors import ClaudeLoopError
from claude_loop.events import ARCHIVED, FORGOTTEN, UNARCHIVED, Event
from claude_loop.hub import Hub
from claude_loop.ids import new_event_id
from claude_loop.progress.documents import PrdDocument
from claude_loop.supervision import TaskOwner

log = structlog.get_logger(__name__)

# A few milliseconds of the writer's time; between steps it is left to the publishers.
STEP_EVENTS = 500
PAUSE_SECONDS = 0.01
RETRY_SECONDS = 5.0


class Keeping:
    """Acts on the PRDs of one hub. ``tasks`` owns the blanking, which goes on when nobody waits for it any more."""

    def __init__(self, hub: Hub, clock: Clock, tasks: TaskOwner) -> None:
        self._hub = hub
        self._clock = clock
        self._tasks = tasks

    async def archive(self, prd: PrdDocument, *, archived: bool) -> int | None:
        """Put a PRD away or bring it back: the ``seq`` that says so, None if it is so already. Raises ``LoadError``."""
        if (prd["archived_at"] is not None) == archived:
            return None
        return (await self._say(ARCHIVED if archived else UNARCHIVED, prd)).seq

    async def forget(self, prd: PrdDocument) -> int:
        """Forget what the events of a PRD said, and return when it is gone: the ``seq`` that says so.

        Raises ``LoadError``; if that comes after the event was stored, the blanking goes on by itself.
        """
        event = await self._say(FORGOTTEN, prd)
        self._hub.blank(event)
        await asyncio.shield(self._tasks.spawn(self._blank(event), f"forgetting before {event.seq}"))
        return event.seq

    async def finish(self) -> None:
        """Go on with what the end of the last process broke off."""
        while True:
            try:
                await self._blank_log()
            except ClaudeLoopError as failure:  # the writer reports it
                log.warning("forgetting waits for the log", code=failure.code)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _blank(self, event: Event) -> None:
        await self.finish()
        self._hub.blank(event)  # what was read from the log meanwhile

    async def _blank_log(self) -> None:
        more = True
        while more:
            more = await self._hub.log.blank(STEP_EVENTS)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _say(self, type_: str, prd: PrdDocument) -> Event:
        event = Event(
            type_,
            {},
            id=new_event_id(self._clock),
            project=prd["project"],
            prd_id=prd["prd_id"],
            source="daemon",
            at=self._clock.now_us() // 1000,
        )
        await self._hub.publish([event])
        return event

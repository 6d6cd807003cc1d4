"""Notifications and heartbeat together, as the daemon starts them and `/status` shows them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from claude_loop.clock import Clock
from claude_loop.delivery.heartbeat import Heartbeat
from claude_loop.delivery.notifier import Notifier
from claude_loop.hub import Hub
from claude_loop.paths import Home
from claude_loop.settings import Settings
from claude_loop.supervision import TaskOwner


class Delivery:
    """Either part is there if the settings ask for it. ``url`` is the daemon's own address, once it has one."""

    def __init__(self, hub: Hub, home: Home, settings: Settings, clock: Clock, url: Callable[[], str]) -> None:
        self._settings = settings
        self._clock = clock
        self._notifier = Notifier(hub, home, settings, clock, url) if settings.notify else None
        self._heartbeat: Heartbeat | None = None

    def start(
        self, stack: AsyncExitStack, is_well: Callable[[], bool], task_failed: Callable[[str, BaseException], None]
    ) -> None:
        """Puts its end on ``stack``."""
        if self._notifier is not None:
            stack.push_async_callback(self._notifier.close)
        tasks = TaskOwner("notify", on_failure=task_failed)
        stack.push_async_callback(tasks.close)
        if self._notifier is not None:
            self._notifier.start(tasks)
        if self._settings.heartbeat.url.get_secret_value():
            self._heartbeat = Heartbeat(self._settings.heartbeat, is_well, self._clock)
            tasks.spawn(self._heartbeat.run(), "heartbeat")

    async def report(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"channels": [], "dead_letters": [], "failure": None}
        answer = nothing if self._notifier is None else await self._notifier.report()
        return {**answer, "heartbeat": None if self._heartbeat is None else self._heartbeat.report()}

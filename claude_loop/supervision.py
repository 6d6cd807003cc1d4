"""Owned tasks: every background task has an owner, a name and somebody who hears of its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class TaskOwner:
    """Starts background tasks, keeps them alive, reports their failures and ends them in bounded time."""

    def __init__(self, name: str, on_failure: Callable[[str, BaseException], None] | None = None) -> None:
        self._name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``coroutine`` as a task named ``owner/name``. The owner holds the reference."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("background task failed", task=task.get_name(), exc_info=failure)
            if self._on_failure is not None:
                self._on_failure(task.get_name(), failure)

    async def close(self, seconds: float = 5.0) -> None:
        """Cancel what is left and wait for it, at most ``seconds``; what stays then is named in the log.

        A task that closes its own owner is left to end by itself.
        """
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=seconds)
            for task in stuck:
                log.error("task did not end in time", task=task.get_name(), seconds=seconds)

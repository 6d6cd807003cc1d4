"""The end of a stop that hangs: in a task that ignores its cancellation, or in a thread whose disk does not answer."""

from __future__ import annotations

import asyncio
import os
import threading

import structlog

log = structlog.get_logger(__name__)


def end_process_after(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    """End the process if it is still there after ``seconds``, and name what it waited for.

    Harmless by the log's own promise: what was acknowledged survives ``kill -9``, and the next start takes the log
    for what it is, not cleanly closed. Nothing that waits inside the process could do it: the interpreter itself joins
    threads and the loop its tasks, without end.
    """
    # A daemon thread: it keeps nothing alive, and runs while the interpreter waits for the others.
    threading.Thread(target=_end, args=(seconds, loop), name="stop deadline", daemon=True).start()


def _end(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    threading.Event().wait(seconds)
    log.error("the daemon did not stop in time and ends now", seconds=seconds, tasks=_tasks(loop), threads=_threads())
    os._exit(1)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    try:
        return sorted(task.get_name() for task in asyncio.all_tasks(loop))
    except RuntimeError:  # they change as we look
        return ["unknown"]


def _threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())

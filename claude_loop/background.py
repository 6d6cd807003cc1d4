"""What a server does beside serving: each part with its tasks, which end, in order, with the server's stack."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from claude_loop.adopt.follower import OutputFollower
from claude_loop.adopt.scanners import LoopScanners
from claude_loop.adopt.watches import watch_wrapped_runs
from claude_loop.clock import Clock
from claude_loop.eventlog.retention import Retention
from claude_loop.hub import Hub
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.spool import SpoolIntake
from claude_loop.observability.health import Health
from claude_loop.paths import Home
from claude_loop.progress.owners import OwnerWatch
from claude_loop.search.service import Search, is_possible
from claude_loop.settings import RetentionSettings, Settings
from claude_loop.supervision import TaskOwner

if TYPE_CHECKING:
    from claude_loop.delivery.service import Delivery

log = structlog.get_logger(__name__)


def start_search(stack: AsyncExitStack, hub: Hub, home: Home, health: Health) -> Search | None:
    """The index that follows the log; None where this SQLite cannot search."""
    if not is_possible():
        log.warning("no search: this SQLite has no FTS5")
        return None
    search = Search(hub, home.search, home.database)
    stack.push_async_callback(search.close)
    tasks = TaskOwner("search", on_failure=health.task_failed)
    stack.push_async_callback(tasks.close)
    tasks.spawn(search.run(), "indexer")
    return search


def start_delivery(
    stack: AsyncExitStack,
    hub: Hub,
    home: Home,
    settings: Settings,
    clock: Clock,
    health: Health,
    url: Callable[[], str],
) -> Delivery | None:
    """Notifications and the heartbeat; None where nobody is to be told."""
    if not settings.tells_people:
        return None
    from claude_loop.delivery.service import Delivery  # noqa: PLC0415 - who is told nothing pays nothing

    delivery = Delivery(hub, home, settings, clock, url)
    delivery.start(stack, lambda: health.problem is None, health.task_failed)
    return delivery


def follow_wrapped_runs(
    stack: AsyncExitStack, hub: Hub, home: Home, acceptor: Acceptor, clock: Clock, health: Health, spool: SpoolIntake
) -> None:
    """What wrapped runs print, commit and plan; told after what they, and agents' hooks, have spooled meanwhile."""
    follower = OutputFollower(hub, home.runs, LoopScanners(), acceptor.redactor.text, clock)
    stack.push_async_callback(follower.close)
    tasks = TaskOwner("wrapped runs", on_failure=health.task_failed)
    stack.push_async_callback(tasks.close)

    async def follow() -> None:
        await spool.caught_up.wait()
        watch_wrapped_runs(tasks, hub, home.runs, clock, acceptor.tidy)
        await follower.run()

    tasks.spawn(follow(), "follower")


def start_upkeep(tasks: TaskOwner, hub: Hub, clock: Clock, keep: RetentionSettings) -> None:
    """Retention, and the owners of runs."""
    owners = OwnerWatch(hub, clock)
    tasks.spawn(Retention(hub.log, clock, keep.days, keep.events).run(), "retention")
    tasks.spawn(owners.follow(), "owners of runs")
    tasks.spawn(owners.watch(), "watch of owners")

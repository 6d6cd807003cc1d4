"""The spool's intake without its task: turns are taken by hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from claude_loop.clock import ManualClock
from claude_loop.errors import Internal
from claude_loop.eventlog.base import Appended, Chain, SpoolOffset
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.inotify import Changes
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.spool_drain import SpoolDrain
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings

Make = Callable[[], Sequence[Event]]


class Drained:
    """A drain on a manual clock and a log in memory."""

    def __init__(self, home: Path, files: type[SpoolFiles] = SpoolFiles) -> None:
        self.home = Home(home)
        self.home.prepare()
        self.clock = ManualClock()
        self.log = MemoryEventLog(clock=self.clock)
        acceptor = Acceptor(LimitSettings(), RedactSettings(), self.clock)
        self.rejected = RejectedLines(self.home, acceptor.redactor, self.clock)
        table = SpoolTable()
        self.drain = SpoolDrain(files(self.home), table, self, acceptor, self.rejected, self.clock)

        self.refuses: Callable[[Sequence[Event]], bool] = lambda _events: False

    def submit_made(
        self, make: Make, most: int, offsets: Sequence[SpoolOffset] = (), chain: Chain | None = None
    ) -> asyncio.Future[list[Appended]]:
        def made() -> Sequence[Event]:
            events = make()
            if self.refuses(events):
                raise Internal("The events could not be stored.")
            return events

        return self.log.append_made(made, most, offsets, chain)

    def append(self, name: str, *marks: object) -> None:
        with (self.home.spool / name).open("ab") as file:
            for mark in marks:
                body = {"type": "note.made", "data": {"mark": mark}}
                file.write(b"\n" + orjson.dumps(body) + b"\n")
        now = self.clock.now_us() / 1e6
        os.utime(self.home.spool / name, (now, now))

    async def turns(self, count: int, seconds: float) -> None:
        for _ in range(count):
            await self.drain.turn(lambda: Changes({}, complete=False))
            self.clock.advance(seconds)

    @property
    def marks(self) -> list[Any]:
        return [event.data["mark"] for event in self.log._events]

"""Events written to a terminal, a pipe or a file, as text or JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import quote

import click

from claude_loop.cli.lines import Subjects, describe
from claude_loop.cli.terminal import clock_time, day, note, wants_colour
from claude_loop.client import DaemonClient
from claude_loop.clock import parse_time
from claude_loop.errors import ClaudeLoopError


@dataclass
class Printer:
    """Writes events; knows what the terminal has shown so far."""

    client: DaemonClient
    stream: IO[str]
    as_json: bool
    quiet: bool
    subjects: Subjects = field(default_factory=Subjects)
    last_day: str = ""
    last_at: int = 0

    def show(self, event_json: str) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(event_json)
        self.last_at = parse_time(event["timestamp"]) // 1000
        if self.quiet:
            return event
        if self.as_json:
            self.stream.write(event_json + "\n")
        else:
            self._line(event)
        self.stream.flush()
        return event

    def _line(self, event: dict[str, Any]) -> None:
        today = day(self.last_at)
        if self.last_day and today != self.last_day:
            note(f"-- {today} --")
        self.last_day = today
        line = describe(event, self._story)
        text = f"{line.mark} {line.text}"
        if line.colour is not None and wants_colour(self.stream):
            text = click.style(text, fg=line.colour)
        self.stream.write(f"{clock_time(self.last_at)} {self.subjects.column(event)}  {text}\n")

    def _story(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The story's document as the read model has it now: what counts as verified is decided there alone."""
        query = {"project": event["project"], "run_id": event["run_id"]}
        try:
            detail = self.client.get(f"/api/prds/{quote(event['prd_id'] or '', safe='')}", query)
        except ClaudeLoopError:
            return None  # the line then says only what the event says
        return next((story for story in detail["stories"] if story["story_id"] == event["story_id"]), None)

    def word(self, text: str) -> None:
        if not self.quiet:
            note(f"-- {text} --")

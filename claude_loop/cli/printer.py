"""Events written to a terminal, a pipe or a file, as text or JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, Any

import click

from claude_loop.cli.lines import Subjects, describe
from claude_loop.cli.read_model import ReadModel
from claude_loop.cli.terminal import clock_time, day, harmless_json, note, wants_colour
from claude_loop.clock import SystemClock, parse_time

# Book-keeping of the daemon's own, which tells a person nothing, and what loops print, in which all else would drown;
# shown when asked for by type, and as JSON.
HIDDEN = frozenset({"system.run_owned", "output.chunk"})


def _today() -> str:
    return day(SystemClock().now_us() // 1000)


@dataclass
class Printer:
    """Writes events to ``stream``, or nowhere if it is None; knows what it has shown so far.

    ``quiet`` leaves out the words beside the events, and ``everything`` shows those that are of no use to a person.
    """

    read_model: ReadModel
    stream: IO[str] | None
    as_json: bool = False
    quiet: bool = False
    everything: bool = False
    subjects: Subjects = field(default_factory=Subjects)
    last_day: str = field(default_factory=_today)
    last_at: int = 0
    # The second of the last event, and what the clock and the calendar showed then: many events share one.
    _second: int = -1
    _shown: tuple[str, str] = ("", "")

    def show(self, event_json: str) -> dict[str, Any]:
        """Write the event; returns it parsed."""
        event: dict[str, Any] = json.loads(event_json)
        self.last_at = parse_time(event["timestamp"]) // 1000
        if self.stream is not None:
            if self.as_json:
                self.stream.write(harmless_json(event_json) + "\n")
            elif self.shows(event):
                self.stream.write(self._line(event))
            self.stream.flush()
        return event

    def shows(self, event: dict[str, Any]) -> bool:
        return self.everything or self.as_json or event["type"] not in HIDDEN

    def _line(self, event: dict[str, Any]) -> str:
        line = describe(event, self.read_model)
        text = f"{line.mark} {line.text}"
        if line.colour is not None and self.stream is not None and wants_colour(self.stream):
            text = click.style(text, fg=line.colour)
        clock, date = self._local_time()
        return f"{self._date(date)}{clock} {self.subjects.column(event)}  {text}\n"

    def _local_time(self) -> tuple[str, str]:
        if self.last_at // 1000 != self._second:
            self._second = self.last_at // 1000
            self._shown = clock_time(self.last_at), day(self.last_at)
        return self._shown

    def _date(self, date: str) -> str:
        """A line with the date, before the first event of another day than the one before it, or than today."""
        if date == self.last_day:
            return ""
        self.last_day = date
        return f"-- {date} --\n"

    def shown_until(self) -> str:
        """The time of the last event shown, as it was shown; empty if there was none."""
        return clock_time(self.last_at) if self.last_at else ""

    def word(self, text: str) -> None:
        if not self.quiet:
            note(f"-- {text} --")

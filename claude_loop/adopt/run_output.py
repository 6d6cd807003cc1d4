"""From one run's output to events. Everything here is called from the follower's thread, a bounded step at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from claude_loop.adopt.chunks import Chunk, Chunks, Redact
from claude_loop.adopt.findings import LONGEST_JSON, Counted, Findings, Said, Scanners
from claude_loop.adopt.run_directory import Plan, RunDirectory
from claude_loop.clock import Clock, rfc3339
from claude_loop.events import Event

SOURCE = "output"
# One call of the regular expressions' engine keeps the interpreter lock to itself: so much takes it a millisecond.
SLICE_BYTES = 32 * 1024
# What is read again after a restart, so that the head of a summary is known with its end.
REWIND_BYTES = 64 * 1024
# A line that does not end is taken in pieces of this size, unless it looks like an agent's JSON.
_LONGEST_LINE = 8 * 1024
# A line without its end, such as a question, is passed on once it has stood so long.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on: behind the chunks that are stored."""

    offset: int = 0
    iteration: int | None = None
    stored: int = 0  # bytes of text, of that iteration


class RunOutput:
    """The events of one run, in order; ``step`` by ``step``."""

    def __init__(self, directory: RunDirectory, scanners: Scanners, redact: Redact, clock: Clock, place: Place) -> None:
        self._directory = directory
        self._plan: Plan = directory.plan
        self._redact = redact
        self._clock = clock
        self._findings = Findings(scanners)
        self._chunks = Chunks(redact, place.offset, place.iteration, place.stored, clock.monotonic())
        self._stored_upto = place.offset
        self._read_upto = max(0, place.offset - REWIND_BYTES)
        self._line = b""  # the beginning of one, up to what has been read
        self._line_since = 0.0
        self._at_ms = self._plan.started_at  # when what was read last had been written
        # When there was nothing yet of what is read next. Unknown of what was printed while no daemon was there.
        self._earliest_ms = self._plan.started_at if place.offset == 0 else None
        self._is_late = False
        self._thread: str | None = None  # the session of an agent whose lines do not name it

    @property
    def offset(self) -> int:
        """Everything before it is in chunks."""
        return self._chunks.offset

    def step(self, *, late: bool) -> tuple[list[Event], bool]:
        """What a slice of output gives, and whether there is more to read at once. ``late``: the run is over.

        The caller publishes the events before the next step; those that were published before are the same again.
        """
        self._is_late = late
        begin, data, written_at = self._directory.read(self._read_upto, SLICE_BYTES)
        now = self._clock.monotonic()
        if not data:
            self._earliest_ms = self._clock.now_us() // 1000
            return list(self._pause(now)), False
        now_ms = self._clock.now_us() // 1000
        self._at_ms = max(self._plan.started_at, min(now_ms, round(written_at * 1000)))
        events = list(self._take(begin, data, now))
        self._read_upto = begin + len(data)
        return events, True

    def finish(self) -> list[Event]:
        """Nothing will be added any more."""
        events = [*self._feed(b"", complete=True), *self._tested(self._findings.settle())]
        events += self._as_events(self._chunks.finish(self._clock.monotonic()))
        return events

    def _pause(self, now: float) -> Iterator[Event]:
        if self._line and now - self._line_since >= _PATIENCE:
            yield from self._feed(b"", complete=True)
        if self._findings_are_quiet(now):
            yield from self._tested(self._findings.settle())
        yield from self._as_events(self._chunks.take(now))

    def _findings_are_quiet(self, now: float) -> bool:
        return now - self._line_since >= _PATIENCE

    def _take(self, begin: int, data: bytes, now: float) -> Iterator[Event]:
        if begin != self._read_upto:  # a segment is missing
            yield from self._feed(b"", complete=True)
            self._read_upto = begin
        self._line_since = now
        yield from self._feed(data, complete=False)
        yield from self._as_events(self._chunks.take(now))

    def _feed(self, data: bytes, *, complete: bool) -> Iterator[Event]:
        """Pass on whole lines, and the rest too if it is ``complete`` or too long."""
        buffer = self._line + data
        begin = self._read_upto - len(self._line)
        end = len(buffer) if complete else buffer.rfind(b"\n") + 1
        if len(buffer) - end > (LONGEST_JSON if buffer.startswith((b"{", b"["), end) else _LONGEST_LINE):
            end = len(buffer)
        self._line = buffer[end:]
        if end:
            yield from self._lines(buffer[:end], begin)

    def _lines(self, lines: bytes, offset: int) -> Iterator[Event]:
        done = 0
        for finding in self._findings.feed(lines, offset, self._came_at(offset)):
            at = finding.offset - offset
            if isinstance(finding, Said) and hasattr(finding.what, "iteration"):
                yield from self._store(lines[done:at], offset + done)
                done = max(done, at)
                yield from self._begin_iteration(finding)
            else:
                yield from self._found(finding)
        yield from self._store(lines[done:], offset + done)

    def _store(self, piece: bytes, offset: int) -> Iterator[Event]:
        new = piece[max(0, self._stored_upto - offset) :]
        if new:
            yield from self._as_events(self._chunks.feed(new, self._clock.monotonic()))

    # -- events ------------------------------------------------------------------------------------------------------

    def _begin_iteration(self, said: Said) -> Iterator[Event]:
        banner: Any = said.what
        if said.offset >= self._stored_upto:
            yield from self._as_events(self._chunks.begin_iteration(banner.iteration, self._clock.monotonic()))
        data = {"iteration": banner.iteration, "max_iterations": banner.max_iterations}
        event = self._event("iteration.started", data, said.offset, "iteration")
        if self._noted(said.offset) is None and self._earliest_ms is not None:
            # What an agent reported meanwhile, such as a limit reached at once, came after the banner.
            event.at = min(self._at_ms, self._earliest_ms)
        yield event

    def _found(self, finding: Said | Counted) -> Iterator[Event]:
        if isinstance(finding, Counted):
            yield self._event("test.run", self._tests(finding.counts), finding.offset, "test")
            return
        what: Any = finding.what
        if hasattr(what, "session_id"):
            yield from self._used(what, finding.offset)
        elif hasattr(what, "until_ms"):
            until = {} if what.until_ms is None else {"until": rfc3339(what.until_ms)}
            data = {"for": "rate_limit", "reason": self._redact(what.reason), "kind": "rate_limit", **until}
            if not self._is_late:
                yield self._event("agent.waiting", data, finding.offset, "limit")
        elif hasattr(what, "text"):
            text = self._redact(what.text)
            data = {"level": "info", "message": f"promise: {text}", "promise": text}
            yield self._event("log.message", data, finding.offset, "promise")

    def _used(self, what: Any, offset: int) -> Iterator[Event]:
        """Totals of a session. Of one that nobody has named they could be counted twice, and are not told."""
        if not hasattr(what, "cost_usd"):
            self._thread = what.session_id
            return
        session_id = what.session_id or self._thread
        if session_id is None:
            return
        told = {
            "cost_usd": what.cost_usd,
            "input_tokens": what.input_tokens,
            "output_tokens": what.output_tokens,
            "model": None if what.model is None else self._redact(what.model),
        }
        data = {key: value for key, value in told.items() if value is not None}
        event = self._event("usage.reported", {**data, "cumulative": True}, offset, "usage")
        event.session_id = session_id
        yield event

    def _tested(self, tested: Iterable[Counted]) -> Iterator[Event]:
        for finding in tested:
            yield from self._found(finding)

    def _tests(self, counts: dict[str, Any]) -> dict[str, Any]:
        data = {key: value for key, value in counts.items() if value is not None}
        data.setdefault("total", data.get("passed", 0) + data.get("failed", 0) + data.get("skipped", 0))
        failures = [
            {key: self._redact(value) for key, value in failure.items() if isinstance(value, str)}
            for failure in data.pop("failures", None) or []
        ]
        return data | ({"failures": failures[:50]} if failures else {})

    def _as_events(self, chunks: Iterable[Chunk]) -> Iterator[Event]:
        for chunk in chunks:
            data: dict[str, Any] = {
                "text": chunk.text,
                "iteration": chunk.iteration,
                "offset": chunk.offset,
                "bytes": chunk.size,
                "left_out": chunk.left_out,
            }
            event = self._event("output.chunk", data, chunk.offset, "")
            event.at = self._came_at(chunk.offset + chunk.size - 1)
            yield event

    def _noted(self, offset: int) -> int | None:
        """When the byte at ``offset`` came, as the wrapper has it."""
        came = self._directory.came_at(offset)
        return None if came is None else max(self._plan.started_at, min(self._clock.now_us() // 1000, came))

    def _came_at(self, offset: int) -> int:
        """The same; else when it had been written, at the latest."""
        noted = self._noted(offset)
        return self._at_ms if noted is None else noted

    def _event(self, type_: str, data: dict[str, Any], offset: int, kind: str) -> Event:
        plan = self._plan
        suffix = f"+{kind}" if kind else ""
        return Event(
            type_,
            data,
            id=f"{plan.run_id}.out.{offset}{suffix}",
            project=plan.project,
            prd_id=plan.prd_id,
            run_id=plan.run_id,
            source=SOURCE,
            at=self._came_at(offset),
        )


def place_after(events: list[Event]) -> Place:
    """Where the stored chunks of a run end; ``events`` are its latest ones, newest first."""
    if not events:
        return Place()
    data = events[0].data
    offset, size, iteration = data.get("offset"), data.get("bytes"), data.get("iteration")
    if type(offset) is not int or type(size) is not int:  # it was forgotten, all but its id
        last = events[0].id.rpartition(".")[2]
        return Place(int(last) if last.isdecimal() else 0)
    stored = 0
    for event in events:
        if event.data.get("iteration") != iteration:
            break
        stored += len(str(event.data.get("text", "")).encode())
    return Place(offset + size, iteration if type(iteration) is int else None, stored)

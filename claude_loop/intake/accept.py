"""Accepting events: what comes in is checked, redacted and completed here, and nowhere else."""

from __future__ import annotations

from typing import Any

import orjson

from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import Clock
from claude_loop.errors import InputError, InvalidEvent, InvalidJson, TooLarge
from claude_loop.events import ID_KEYS, Event
from claude_loop.ids import new_event_id
from claude_loop.intake.envelope import check_id, check_keys, data_object, event_type, shown, time_us
from claude_loop.intake.mend import INVALID, loads_leniently, marked, mend
from claude_loop.intake.redact import Redactor
from claude_loop.intake.redact_ids import redacted_id
from claude_loop.intake.shorten import depth_exceeds, flatten, shorten
from claude_loop.settings import LimitSettings, RedactSettings


class Acceptor:
    """Turns what a sender sent into an ``Event`` that keeps every rule: envelope, limits, payload, no secrets."""

    def __init__(self, limits: LimitSettings, redact: RedactSettings, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self.redactor = Redactor(redact)

    def accept(self, raw: object, *, source: str) -> Event:
        """One decoded JSON value as an event; ``source`` is used where it names none.

        Raises ``InvalidEvent``, ``UnknownField`` or ``TooLarge``, with the field and the next step.
        """
        try:
            if not isinstance(raw, dict):
                raise InvalidEvent(f"An event is a JSON object, not {shown(raw)}.")
            check_keys(raw)
            data, text = self._encoded(data_object(raw))
            envelope = orjson.dumps([raw.get(key) for key in raw if key != "data"]).decode()
            return self._event({**raw, "data": data}, f"{envelope}{text}", None, source)[0]
        except InputError as refusal:
            raise self._without_secrets(refusal) from None
        except TypeError:
            # Only the envelope is left: what is no JSON there is no string either.
            raise InvalidEvent("The event is not JSON.", hint="Send JSON values only.") from None

    def accept_line(self, line: bytes, *, source: str) -> Event:
        """One line of NDJSON as an event. As ``accept``; raises ``InvalidJson`` too."""
        try:
            raw = orjson.loads(line)
        except orjson.JSONDecodeError as failure:
            raise InvalidJson(f"The line is not JSON: {failure.msg}.") from None
        try:
            if raw.__class__ is not dict:
                raise InvalidEvent(f"An event is a JSON object, not {shown(raw)}.")
            self._check_limits(raw, line)
            return self._event(raw, _plain_text(line, raw), None, source)[0]
        except InputError as refusal:
            raise self._without_secrets(refusal) from None

    def salvage(self, line: bytes, *, derived_id: str, source: str) -> tuple[Event, int | None]:
        """One line of the spool as an event, mended and marked where it breaks a rule, and when it happened
        (microseconds since the epoch; None if it does not say). ``derived_id`` is for a line without an id.

        Raises ``InvalidJson`` when it is no JSON object, and only then.
        """
        try:
            raw = orjson.loads(line)
        except orjson.JSONDecodeError:
            raw = loads_leniently(line)
            line = b""
        if raw.__class__ is not dict:
            raise InvalidJson("The line is JSON, but not an object.")
        if not line:
            return self._salvage_slowly(raw, derived_id, source)
        try:
            self._check_limits(raw, line)
            return self._event(raw, _plain_text(line, raw), derived_id, source)
        except InputError:
            return self._salvage_slowly(raw, derived_id, source)

    def _event(self, raw: dict[str, Any], text: str, derived_id: str | None, source: str) -> tuple[Event, int | None]:
        """``text`` is the event serialized: what the search for secrets looks at first."""
        check_keys(raw)
        kind = event_type(raw)
        data = data_object(raw)
        for key in raw:
            value = raw[key]
            # The cheap test decides nearly always; `check_id` says exactly what is wrong.
            if (
                value.__class__ is str
                and value
                and len(value) <= 128
                and value.isascii()
                and value.isprintable()
                or key in _NO_IDS
                or value is None
            ):
                continue
            check_id(key, value)
        stamp = raw.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        if self.redactor.suspects(text):
            raw, data = self._redacted(raw), self.redactor.data(data)
            kind = raw["type"]
        return self._finish(raw, kind, data, at_us, derived_id, source), at_us

    def _finish(
        self,
        raw: dict[str, Any],
        kind: str,
        data: dict[str, Any],
        at_us: int | None,
        derived_id: str | None,
        source: str,
    ) -> Event:
        get = raw.get
        story = get("story_id")
        known = CATALOGUE.get(kind)
        if known is not None:
            data, story_id = known.complete(data, story)
            if story_id is not story:
                check_id("data.story_id", story_id)
                story = story_id
        return Event(
            kind,
            data,
            id=get("id") or derived_id or new_event_id(self._clock),
            project=get("project"),
            prd_id=get("prd_id"),
            story_id=story,
            run_id=get("run_id"),
            session_id=get("session_id"),
            source=get("source") or source,
            at=(self._clock.now_us() if at_us is None else at_us) // 1000,
        )

    def _salvage_slowly(self, raw: dict[str, Any], derived_id: str, source: str) -> tuple[Event, int | None]:
        envelope, data, extra, reasons = mend(raw)
        envelope = self._redacted(envelope)
        data = flatten(marked(data, extra, reasons), self._limits.data_depth)
        # Shortened after redaction: half a key would no longer look like one.
        data = shorten(self.redactor.data(data), self._limits.data_bytes)
        stamp = envelope.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        try:
            return self._finish(envelope, envelope["type"], data, at_us, derived_id, source), at_us
        except InvalidEvent as refusal:
            data = marked(data, {}, [self.redactor.text(refusal.message)])
        event = self._finish(envelope, "", data, at_us, derived_id, source)
        event.type = envelope["type"]
        return event, at_us

    def _redacted(self, raw: dict[str, Any]) -> dict[str, Any]:
        """The envelope without secrets. An id stays one of its own: two events must not become one."""
        text = self.redactor.text
        clean = {key: text(raw[key]) if isinstance(raw[key], str) and key in ID_KEYS else raw[key] for key in raw}
        for key in ("id", "source", "type"):
            if isinstance(raw.get(key), str):
                clean[key] = redacted_id(raw[key], text(raw[key]))
        return clean

    def _encoded(self, data: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """``data`` within its limits, as JSON would carry it, and that JSON."""
        if depth_exceeds(data, self._limits.data_depth):
            raise self._too_deep()
        try:
            text = orjson.dumps(data)
        except TypeError as failure:
            hint = "Send numbers beyond 64 bits as strings, bytes as text."
            raise InvalidEvent(f"`data` is not JSON: {failure}.", field="data", hint=hint) from None
        if len(text) > self._limits.data_bytes:
            raise self._too_large(len(text))
        # NaN and infinities become null in JSON: the event must hold what its readers will see.
        return (orjson.loads(text) if b"null" in text else data), text.decode()

    def _check_limits(self, raw: dict[str, Any], line: bytes) -> None:
        """The line bounds its `data`, in bytes and in brackets: most need no measuring."""
        limits = self._limits
        if line.count(b"{") + line.count(b"[") > limits.data_depth and depth_exceeds(raw, limits.data_depth + 1):
            raise self._too_deep()
        if len(line) > limits.data_bytes:
            size = len(orjson.dumps(raw.get("data")))
            if size > limits.data_bytes:
                raise self._too_large(size)

    def _too_deep(self) -> TooLarge:
        return TooLarge(
            f"`data` is nested deeper than {self._limits.data_depth} levels.",
            field="data",
            hint="Flatten it, or send the inner part as a string.",
        )

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"`data` has {size} bytes of JSON; the limit is {self._limits.data_bytes}.", field="data")

    def _without_secrets(self, refusal: InputError) -> InputError:
        text = self.redactor.text
        field = None if refusal.field is None else text(refusal.field)
        return type(refusal)(text(refusal.message), hint=text(refusal.hint), field=field)


_NO_IDS = frozenset({"data", "timestamp", "type"})

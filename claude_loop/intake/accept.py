"""Accepting events: what comes in is checked, redacted and completed here, and nowhere else."""

from __future__ import annotations

from typing import Any

import orjson

from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import Clock
from claude_loop.errors import InputError, InvalidEvent, InvalidJson, TooLarge
from claude_loop.events import ENVELOPE_KEYS, ID_KEYS, RESERVED, Event
from claude_loop.ids import new_event_id
from claude_loop.intake.envelope import check_id, data_object, event_type, shown, time_us, unknown_key
from claude_loop.intake.mend import loads_leniently, marked, mend
from claude_loop.intake.redact import Redactor
from claude_loop.intake.shorten import depth_exceeds, flatten, json_size, shorten
from claude_loop.settings import LimitSettings, RedactSettings

# Ids remembered as valid, at most.
KNOWN_IDS = 4_096


class Acceptor:
    """Turns what a sender sent into an ``Event`` that keeps every rule: envelope, limits, payload, no secrets."""

    def __init__(self, limits: LimitSettings, redact: RedactSettings, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._known_ids: set[object] = {None}
        self.redactor = Redactor(redact)

    def accept(self, raw: object, *, source: str) -> Event:
        """One decoded JSON value as an event; ``source`` is used where it names none.

        Raises ``InvalidEvent``, ``UnknownField`` or ``TooLarge``, with the field and the next step.
        """
        try:
            if not isinstance(raw, dict):
                raise InvalidEvent(f"An event is a JSON object, not {shown(raw)}.")
            return self._event({**raw, "data": self._as_json(data_object(raw))}, None, None, source)[0]
        except InputError as refusal:
            raise self._without_secrets(refusal) from None

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

    def _event(
        self, raw: dict[str, Any], text: str | None, derived_id: str | None, source: str
    ) -> tuple[Event, int | None]:
        """``text`` is the event serialized, if it is at hand: the search for secrets looks there first."""
        if not ENVELOPE_KEYS.issuperset(raw):
            raise unknown_key(raw)
        kind = event_type(raw)
        data = data_object(raw)
        self._check_ids(raw)
        stamp = raw.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        if self.redactor.suspects(text or orjson.dumps(raw).decode()):
            raw, data = self.redactor.envelope(raw), self.redactor.data(data)
            kind = raw["type"]
        data, story_id = _completed(kind, data, raw.get("story_id"))
        return self._assemble(raw, kind, data, story_id, at_us, derived_id, source), at_us

    def _check_ids(self, raw: dict[str, Any]) -> None:
        """Raises ``InvalidEvent``. A run's events share all but one: what was right once is right again."""
        get = raw.get
        known = self._known_ids
        try:
            ids = (get("project"), get("prd_id"), get("story_id"), get("run_id"), get("session_id"), get("source"))
            new = not known.issuperset(ids)
        except TypeError:  # a list or an object
            new = True
        if new:
            for key in (*ID_KEYS, "source"):
                if get(key) is not None:
                    check_id(key, get(key))
            if len(known) >= KNOWN_IDS:
                known.clear()
                known.add(None)
            known.update(ids)
        event_id = get("id")
        if event_id is not None:
            check_id("id", event_id)

    def _assemble(
        self,
        envelope: dict[str, Any],
        kind: str,
        data: dict[str, Any],
        story_id: str | None,
        at_us: int | None,
        derived_id: str | None,
        source: str,
    ) -> Event:
        get = envelope.get
        return Event(
            kind,
            data,
            id=get("id") or derived_id or new_event_id(self._clock),
            project=get("project"),
            prd_id=get("prd_id"),
            story_id=story_id,
            run_id=get("run_id"),
            session_id=get("session_id"),
            source=get("source") or source,
            at=(self._clock.now_us() if at_us is None else at_us) // 1000,
        )

    def _salvage_slowly(self, raw: dict[str, Any], derived_id: str, source: str) -> tuple[Event, int | None]:
        envelope, data, extra, reasons = mend(raw)
        envelope = self.redactor.envelope(envelope)
        kind, story_id = envelope["type"], envelope.get("story_id")
        data = flatten(marked(data, extra, reasons), self._limits.data_depth)
        # Shortened after redaction: half a key would no longer look like one.
        data = shorten(self.redactor.data(data), self._limits.data_bytes)
        try:
            data, story_id = _completed(kind, data, story_id)
        except InvalidEvent as refusal:
            data = marked(data, {}, [self.redactor.text(refusal.message)])
        stamp = envelope.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        return self._assemble(envelope, kind, data, story_id, at_us, derived_id, source), at_us

    def _as_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """``data`` within its limits, as its readers will see it."""
        if depth_exceeds(data, self._limits.data_depth):
            raise self._too_deep()
        try:
            text = orjson.dumps(data)
        except TypeError as failure:
            hint = "Send numbers beyond 64 bits as strings, bytes as text."
            raise InvalidEvent(f"`data` is not JSON: {failure}.", field="data", hint=hint) from None
        if len(text) > self._limits.data_bytes:
            raise self._too_large(len(text))
        # NaN, infinities and dates become something else in JSON.
        return orjson.loads(text)  # type: ignore[no-any-return]

    def _check_limits(self, raw: dict[str, Any], line: bytes) -> None:
        """Raises ``TooLarge``. A line within the limit holds no `data` beyond it: most are never measured."""
        data = raw.get("data")
        if data.__class__ is not dict:
            return  # refused later, with a better reason
        limits = self._limits
        for value in data.values():
            if (value.__class__ is dict or value.__class__ is list) and depth_exceeds(value, limits.data_depth - 1):
                raise self._too_deep()
        if len(line) > limits.data_bytes:
            size = json_size(data)
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


def _completed(kind: str, data: dict[str, Any], story_id: str | None) -> tuple[dict[str, Any], str | None]:
    """A known type's data, validated and filled in, and the story. Raises ``InvalidEvent``."""
    known = CATALOGUE.get(kind)
    if known is None:
        if kind in RESERVED:
            raise InvalidEvent(
                f"`{kind}` is said by the daemon alone.",
                field="type",
                hint="`claude-loop archive` and `claude-loop forget` ask it to.",
            )
        return data, story_id
    data, inner = known.complete(data, story_id)
    if inner is not story_id:
        check_id("data.story_id", inner)
    return data, inner


def _plain_text(line: bytes, raw: dict[str, Any]) -> str:
    """``line`` without needless escapes, behind which a secret could hide: ``\\u0073k-…``, ``https:\\/\\/…``."""
    if b"\\" in line and (b"\\u00" in line or b"\\/" in line):
        return orjson.dumps(raw).decode()
    return line.decode()

"""Accepting events: what comes in is checked, redacted and completed here, and nowhere else."""

from __future__ import annotations

from typing import Any

import orjson

from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import Clock
from claude_loop.errors import InputError, InvalidEvent, InvalidJson, TooLarge
from claude_loop.events import ENVELOPE_KEYS, ID_KEYS, RESERVED, Event
from claude_loop.ids import new_event_id
from claude_loop.intake import wide_integers
from claude_loop.intake.agent_lines import AgentLines
from claude_loop.intake.envelope import check_id, check_type, data_object, shown, time_us, unknown_key
from claude_loop.intake.mend import loads_leniently, marked, mend
from claude_loop.intake.redact import Redactor
from claude_loop.intake.shorten import depth_exceeds, flatten, json_size, shorten
from claude_loop.settings import LimitSettings, RedactSettings

# Combinations of type, ids and source remembered as valid, at most.
KNOWN_CONTEXTS = 4_096
_AS_PARSED = frozenset((str, int, bool, type(None)))


class Acceptor:
    """Turns what a sender sent into an ``Event`` that keeps every rule: envelope, limits, payload, no secrets."""

    def __init__(self, limits: LimitSettings, redact: RedactSettings, clock: Clock) -> None:
        self._limits = limits
        self._data_bytes = limits.data_bytes
        self._data_depth = limits.data_depth
        self._clock = clock
        self._known_contexts: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.redactor = Redactor(redact)
        self._agents = AgentLines(limits, self.redactor, clock)

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

    def is_clear(self, lines: bytes) -> bool:
        """Whether no line among these can hold a secret: many are looked through at once for the price of a few."""
        try:
            return not _has_needless_escapes(lines) and not self.redactor.suspects(lines.decode())
        except UnicodeDecodeError:
            return False

    def accept_line(self, line: bytes, *, source: str, clear: bool = False) -> Event:
        """One line of NDJSON as an event; ``clear`` says that ``is_clear`` has been asked.

        As ``accept``; raises ``InvalidJson`` too.
        """
        try:
            raw = orjson.loads(line)
        except orjson.JSONDecodeError as failure:
            why = "it has bytes that are no UTF-8" if "UTF-8" in failure.msg else failure.msg
            raise InvalidJson(f"The line is not JSON: {why}.") from None
        try:
            if raw.__class__ is not dict:
                raise InvalidEvent(f"An event is a JSON object, not {shown(raw)}.")
            self._check(raw, line)
            return self._event(raw, "" if clear else _plain_text(line, raw), None, source)[0]
        except InputError as refusal:
            raise self._without_secrets(refusal) from None

    def salvage(
        self, line: bytes, *, derived_id: str, source: str, clear: bool = False, at_us: int | None = None
    ) -> tuple[Event, int | None]:
        """One line of the spool as an event, mended and marked where it breaks a rule, and when it happened
        (microseconds since the epoch; None if it does not say). ``derived_id`` is for a line without an id,
        ``clear`` as for ``accept_line``, ``at_us`` the time that its ``timestamp`` is known to say.

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
            self._check(raw, line)
            return self._event(raw, "" if clear else _plain_text(line, raw), derived_id, source, at_us)
        except InputError:
            return self._salvage_slowly(wide_integers.loads(line), derived_id, source)

    def salvage_line(
        self, line: bytes, *, derived_id: str, source: str, clear: bool = False
    ) -> tuple[Event | list[Event], int | None]:
        """As ``salvage``; what an agent's hook wrote may be several events."""
        return self._agents.events(line, derived_id=derived_id) or self.salvage(
            line, derived_id=derived_id, source=source, clear=clear
        )

    def tidy(self, data: dict[str, Any]) -> dict[str, Any]:
        """``data`` that the daemon has read somewhere itself, without secrets and within the limits of an event."""
        return shorten(self.redactor.data(data), self._data_bytes)

    def _event(
        self, raw: dict[str, Any], text: str | None, derived_id: str | None, source: str, at_us: int | None = None
    ) -> tuple[Event, int | None]:
        """``text`` is the event serialized, if it is at hand: the search for secrets looks there first. It is empty
        if there are known to be none. ``at_us`` is what ``timestamp`` says, if that has been read."""
        if not ENVELOPE_KEYS.issuperset(raw):
            raise unknown_key(raw)
        get = raw.get
        context = (
            get("type"),
            get("project"),
            get("prd_id"),
            get("story_id"),
            get("run_id"),
            get("session_id"),
            get("source"),
        )
        try:
            # Their text is kept once for all events that share it.
            context = self._known_contexts[context]
        except (KeyError, TypeError):  # TypeError: a list or an object is among them, as is said then
            self._insist_on_valid(context)
        data = get("data")
        if data.__class__ is not dict:
            data = data_object(raw)
        event_id = get("id")
        if event_id is not None:
            check_id("id", event_id)
        if at_us is None and (stamp := get("timestamp")) is not None:
            at_us = time_us(stamp)
        if text != "" and self.redactor.suspects(orjson.dumps(raw).decode() if text is None else text):
            raw, data = self.redactor.envelope(raw), self.redactor.data(data)
            kind, event_id = raw["type"], raw.get("id")
            project, prd_id, story_id, run_id, session_id = map(raw.get, ID_KEYS)
            named_source = raw.get("source")
        else:
            kind, project, prd_id, story_id, run_id, session_id, named_source = context
        data, story_id = _completed(kind, data, story_id)
        at = (self._clock.now_us() if at_us is None else at_us) // 1000
        if event_id is None:
            event_id = derived_id or new_event_id(self._clock)
        named = named_source or source
        return Event(kind, data, event_id, project, prd_id, story_id, run_id, session_id, named, at), at_us

    def _insist_on_valid(self, context: tuple[object, ...]) -> None:
        """Raises ``InvalidEvent``. A run's events share their type and ids with many: what was right is right again."""
        check_type(context[0])
        for key, value in zip((*ID_KEYS, "source"), context[1:], strict=True):
            if value is not None:
                check_id(key, value)
        if len(self._known_contexts) >= KNOWN_CONTEXTS:
            self._known_contexts.clear()
        self._known_contexts[context] = context

    def _salvage_slowly(self, raw: dict[str, Any], derived_id: str, source: str) -> tuple[Event, int | None]:
        too_wide = wide_integers.reasons(raw)
        envelope, data, extra, reasons = mend(wide_integers.as_text(raw) if too_wide else raw)
        reasons += too_wide
        envelope = self.redactor.envelope(envelope)
        kind, story_id = envelope["type"], envelope.get("story_id")
        data = flatten(marked(data, extra, reasons), self._data_depth)
        # Shortened after redaction: half a key would no longer look like one.
        data = shorten(self.redactor.data(data), self._data_bytes)
        try:
            data, story_id = _completed(kind, data, story_id)
        except InvalidEvent as refusal:
            data = marked(data, {}, [self.redactor.text(refusal.message)])
        stamp = envelope.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        at = (self._clock.now_us() if at_us is None else at_us) // 1000
        event_id = envelope.get("id") or derived_id
        project, prd_id, _, run_id, session_id = map(envelope.get, ID_KEYS)
        named = envelope.get("source") or source
        return Event(kind, data, event_id, project, prd_id, story_id, run_id, session_id, named, at), at_us

    def _as_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """``data`` within its limits, as its readers will see it."""
        if depth_exceeds(data, self._data_depth):
            raise self._too_deep()
        wide_integers.refuse(data)
        try:
            text = orjson.dumps(data)
        except TypeError as failure:
            raise InvalidEvent(f"`data` is not JSON: {failure}.", field="data", hint="Send bytes as text.") from None
        if len(text) > self._data_bytes:
            raise self._too_large(len(text))
        # NaN, infinities and dates become something else in JSON.
        return orjson.loads(text)  # type: ignore[no-any-return]

    def _check(self, raw: dict[str, Any], line: bytes) -> None:
        """Raises ``TooLarge``, and ``InvalidEvent`` for integers beyond 64 bits."""
        data = raw.get("data")
        if data.__class__ is not dict:
            return  # refused later, with a better reason
        # Text and whole numbers are what they look like, and no deeper: nearly all data is nothing else.
        if _AS_PARSED.issuperset(map(type, data.values())):
            if len(line) > self._data_bytes:
                self._measure(data)
            return
        # A line that is short and has few brackets holds nothing larger or deeper: most are never measured.
        if len(line) > self._data_bytes or line.count(b"{") + line.count(b"[") > self._data_depth:
            self._measure(data)
        wide_integers.refuse_in_line(raw, line)

    def _measure(self, data: dict[str, Any]) -> None:
        if depth_exceeds(data, self._data_depth):
            raise self._too_deep()
        size = json_size(data)
        if size > self._data_bytes:
            raise self._too_large(size)

    def _too_deep(self) -> TooLarge:
        return TooLarge(
            f"`data` is nested deeper than {self._data_depth} levels.",
            field="data",
            hint="Flatten it, or send the inner part as a string.",
        )

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"`data` has {size} bytes of JSON; the limit is {self._data_bytes}.", field="data")

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
    return orjson.dumps(raw).decode() if _has_needless_escapes(line) else line.decode()


def _has_needless_escapes(line: bytes) -> bool:
    return b"\\" in line and (b"\\u00" in line or b"\\/" in line)

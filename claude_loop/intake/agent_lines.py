"""Lines `hook.<agent>` of the spool: an agent's own words become events of ours, redacted first, shortened last.

One line may become several events: what the agent did, and the facts found in it. They are one record of the merge, so
they are committed in one transaction with the line's offset; their ids follow from the line's, so that a line that is
read again is a repetition, event by event.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import Clock
from claude_loop.errors import InvalidEvent, InvalidJson
from claude_loop.events import Event
from claude_loop.formats.agent_hooks import drafts, is_hook, restored, session_of
from claude_loop.formats.hook_fields import Draft
from claude_loop.id_rules import MAX_ID_LENGTH
from claude_loop.intake import wide_integers
from claude_loop.intake.envelope import check_id, time_us
from claude_loop.intake.long_texts import without_long_texts
from claude_loop.intake.mend import loads_leniently, marked, mend
from claude_loop.intake.redact import Redactor
from claude_loop.intake.shorten import flatten, shorten
from claude_loop.settings import LimitSettings

# Without it a line is no hook's; with it, it may be.
ANCHOR = b'"hook.'


class AgentLines:
    """Turns lines of agents' hooks into events. Nothing that is a JSON object is refused."""

    def __init__(self, limits: LimitSettings, redactor: Redactor, clock: Clock) -> None:
        self._limits = limits
        self._redactor = redactor
        self._clock = clock

    def events(self, line: bytes, *, derived_id: str) -> tuple[list[Event], int | None] | None:
        """The events of a hook's line and when it happened, in microseconds since the epoch; None for other lines.

        Raises ``InvalidJson`` when it is no JSON object.
        """
        if ANCHOR not in line:
            return None
        raw = _decoded(line)
        if not isinstance(raw, dict):
            raise InvalidJson("The line is JSON, but not an object.")
        return self._events(raw, derived_id) if is_hook(raw.get("type")) else None

    def _events(self, raw: dict[str, Any], derived_id: str) -> tuple[list[Event], int | None]:
        too_wide = wide_integers.reasons(raw)
        envelope, data, extra, reasons = mend(wide_integers.as_text(raw) if too_wide else raw)
        reasons += too_wide
        envelope = self._redactor.envelope(envelope)
        # A level less than the limit: the payload becomes a part of its event's data.
        payload = flatten(restored(data), self._limits.data_depth - 1)
        payload = self._redactor.data(without_long_texts(payload))
        envelope["session_id"] = _valid_id(session_of(payload)) or envelope.get("session_id")
        extra = self._redactor.data(flatten(extra, self._limits.data_depth - 1))
        stamp = envelope.get("timestamp")
        at_us = None if stamp is None else time_us(stamp)
        envelope["at"] = (self._clock.now_us() if at_us is None else at_us) // 1000
        envelope["id"] = envelope.get("id") or derived_id
        main, *parts = drafts(envelope["type"], payload, envelope["at"])
        main = main._replace(data=marked(main.data, extra, [self._redactor.text(reason) for reason in reasons]))
        return [self._event(draft, envelope) for draft in (main, *parts)], at_us

    def _event(self, draft: Draft, envelope: dict[str, Any]) -> Event:
        story_id = envelope.get("story_id")
        data = draft.data
        known = CATALOGUE.get(draft.type)
        if story_id is not None and known is not None and known.story != "none":
            data = {**data, "story_id": story_id}
        return Event(
            draft.type,
            shorten(data, self._limits.data_bytes),
            part_id(envelope["id"], draft.part),
            envelope.get("project"),
            envelope.get("prd_id"),
            story_id,
            envelope.get("run_id"),
            envelope["session_id"],
            envelope.get("source") or envelope["type"].partition(".")[2],
            envelope["at"],
        )


def part_id(line_id: str, part: str) -> str:
    """The id of a fact found in a line: the line's own, and what it is."""
    if not part:
        return line_id
    if len(line_id) + len(part) >= MAX_ID_LENGTH:
        line_id = blake2b(line_id.encode(), digest_size=16).hexdigest()
    return f"{line_id}+{part}"


def _decoded(line: bytes) -> Any:
    try:
        return wide_integers.loads(line)
    except orjson.JSONDecodeError:
        return loads_leniently(line)


def _valid_id(value: str | None) -> str | None:
    try:
        check_id("session_id", value)
    except InvalidEvent:
        return None
    return value

"""A message: about what, to which channel, and what has become of it. Its name follows from what it is about."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from claude_loop.delivery.conditions import Condition

Phase = Literal["alert", "resolved"]


class Message(NamedTuple):
    """A row. ``state`` is `pending`, `sending`, `sent`, `dead` or `dropped`."""

    message_id: str
    channel: str
    step: int
    phase: Phase
    state: str
    due_at: int
    attempts: int
    first_attempt_at: int | None
    settled_at: int | None
    reason: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Plan:
    """What a channel does with a new condition: when its first message is due."""

    channel: str
    due_at: int


def message_id(condition: Condition, channel: str, step: int, phase: Phase) -> str:
    """From run, kind, since, channel, step and phase: the same for the same message for ever. A receiver can drop what
    it has, and the log stores it once."""
    text = json.dumps([*condition.identity, channel, step, phase])
    return "alert-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def text_of(condition: Condition) -> str:
    """As a row keeps it."""
    return json.dumps(asdict(condition))


def condition_of(text: str) -> Condition:
    return Condition(**json.loads(text))

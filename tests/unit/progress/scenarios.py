"""A few words for what happens to a PRD, and the read model that comes of it.

A scenario is ``type key=value … → type … → 5 min``. Keys are those of ``data``, except ``prd``, ``story``, ``run``,
``session``, ``project`` and ``source``; values are JSON, or else strings. Types of stories are about US-001 unless they say otherwise.
Events are a second apart.
"""

from __future__ import annotations

import json
import re
from typing import Any

from claude_loop.catalogue import CATALOGUE
from claude_loop.events import Event
from claude_loop.progress.keys import prd_key, run_key, session_key, story_key
from claude_loop.progress.passing import shown, shown_session
from claude_loop.progress.projection import ProgressProjection

START_MS = 1_769_428_800_000
STALLED_AFTER_MS = 300_000
_ENVELOPE = {"prd": "prd_id", "story": "story_id", "run": "run_id", "session": "session_id", "project": "project"}
_WORD = re.compile(r"""[^\s=]+="[^"]*"|\S+""")
_ABOUT_STORIES = ("story.", "test.", "commit.")


class Documents(dict[str, dict[str, Any]]):
    """Entities in memory."""

    def put(self, key: str, document: dict[str, Any]) -> None:
        self[key] = document

    def remove(self, key: str) -> None:
        self.pop(key, None)


class World:
    """A log of events with its read model, and a clock."""

    def __init__(self) -> None:
        self.documents = Documents()
        self.events: list[Event] = []
        self.now_ms = START_MS
        self._projection = ProgressProjection()

    def play(self, scenario: str) -> World:
        for step in scenario.split("→"):
            words = _WORD.findall(step)
            if words[-1] in ("min", "s"):
                self.now_ms += int(words[0]) * (60_000 if words[-1] == "min" else 1000)
            else:
                self.say(words[0], **dict(_pair(word) for word in words[1:]))
        return self

    def say(self, type_: str, *, at: int | None = None, **given: Any) -> Event:
        """Publish one event now; it happened at ``at``."""
        envelope = {_ENVELOPE[key]: given.pop(key) for key in list(given) if key in _ENVELOPE}
        envelope.setdefault("prd_id", "PRD-1")
        source = given.pop("source", "test")
        if type_.startswith(_ABOUT_STORIES):
            envelope.setdefault("story_id", "US-001")
        data, story_id = given, envelope.pop("story_id", None)
        if type_ in CATALOGUE:
            data, story_id = CATALOGUE[type_].complete(given, story_id)
        self.now_ms += 1000
        return self.publish(
            Event(type_, data, story_id=story_id, source=source, at=self.now_ms if at is None else at, **envelope)
        )

    def publish(self, event: Event) -> Event:
        event.seq = len(self.events) + 1
        event.id = event.id or f"event-{event.seq}"
        event.received_at = self.now_ms
        self._projection.apply((event,), self.documents)
        self.events.append(event)
        return event

    def prd(self, prd: str = "PRD-1", project: str | None = None) -> dict[str, Any]:
        return self.documents[prd_key(project, prd)]

    def run(self, run_id: str | None = None, prd: str = "PRD-1") -> dict[str, Any]:
        """A run as it stands now; the latest unless named."""
        stored = self.documents[run_key(None, prd, run_id or self.prd(prd)["run_id"])]
        return shown(stored, self.now_ms, STALLED_AFTER_MS)

    def story(self, story_id: str = "US-001", run_id: str | None = None) -> dict[str, Any]:
        return self.documents[story_key(None, "PRD-1", run_id or self.prd()["run_id"], story_id)]

    def session(self, session_id: str = "S1", prd: str | None = "PRD-1", project: str | None = None) -> dict[str, Any]:
        """A session as it stands now."""
        return shown_session(self.documents[session_key(project, prd, session_id)], self.now_ms)


def _pair(word: str) -> tuple[str, Any]:
    key, _, text = word.partition("=")
    if key in _ENVELOPE:
        return key, text
    try:
        return key, json.loads(text)
    except ValueError:
        return key, text


def play(scenario: str) -> World:
    return World().play(scenario)

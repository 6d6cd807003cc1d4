"""Events that are told by a mark, a few words and one field of their data: in the terminal and on the page alike.

The page's copy is made from this by ``web/generate_types.py``. Events that need more than that have a function of
their own in ``cli/lines.py`` and in ``web/src/stream/``; those that have neither are told by their type and data.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Mark = Literal["begin", "story", "good", "end", "blocked", "error", "turn", "plain", "gone"]
Tone = Literal["running", "good", "bad", "blocked", "plain"]

# The marks as characters, where the event has no other.
SIGNS: dict[Mark, str] = {
    "begin": "▶",
    "story": "▷",
    "good": "✓",
    "end": "◇",
    "blocked": "⊘",
    "error": "!",
    "turn": "↻",
    "plain": "·",
    "gone": "☠",
}


class Words(NamedTuple):
    """``field`` of the data follows the ``words``. ``sign`` stands in the terminal for the mark's own character."""

    mark: Mark
    words: str
    tone: Tone = "plain"
    field: str = ""
    sign: str = ""


EVENT_WORDS: dict[str, Words] = {
    "story.started": Words("story", "started", "running"),
    "story.blocked": Words("blocked", "blocked", "blocked", "reason"),
    "error.occurred": Words("error", "error", "bad", "error"),
    "agent.resumed": Words("begin", "goes on", "running"),
    "agent.idle": Words("plain", "has finished its turn", sign="◇"),
    "agent.message": Words("plain", "says", field="message", sign="“"),
    "session.ended": Words("end", "session ended", field="reason"),
    "session.compacting": Words("turn", "shortens its context", field="trigger"),
    "session.compacted": Words("plain", "has shortened its context", field="trigger", sign="◇"),
    "prompt.submitted": Words("story", "prompt", field="prompt", sign="❯"),
    "task.created": Words("plain", "task", field="subject"),
    "task.completed": Words("good", "task done", "good", "subject"),
    "output.chunk": Words("plain", "output", field="text"),
    "alert.sent": Words("plain", "notified", field="kind", sign="♪"),
    "alert.resolved": Words("plain", "told that it is over", field="kind", sign="♪"),
    "alert.failed": Words("error", "could not notify", "bad", "reason"),
    "system.run_owned": Words("plain", "its process is watched", field="pid"),
    "system.run_vanished": Words("gone", "its process is gone without finishing", "bad", "pid"),
}

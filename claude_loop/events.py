"""The event: the one thing the log stores, the hub announces and every reader sees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from claude_loop.agents import AGENTS
from claude_loop.clock import rfc3339

# The keys a publisher may set; `seq` and `received_at` are the log's.
ENVELOPE_KEYS = frozenset(
    {"id", "type", "project", "prd_id", "story_id", "run_id", "session_id", "source", "timestamp", "data"}
)
ID_KEYS = ("project", "prd_id", "story_id", "run_id", "session_id")
# Said of a PRD by the daemon, when a person asks for it; refused from everybody else.
ARCHIVED, UNARCHIVED, FORGOTTEN = "prd.archived", "prd.unarchived", "prd.forgotten"
RESERVED = frozenset({ARCHIVED, UNARCHIVED, FORGOTTEN})
# Sources that see what happens in a loop without being told of its story: the log finds the story.
OBSERVERS = frozenset({*AGENTS, "git", "output", "prd.json"})
# What is left of an event's data once its PRD has been forgotten.
BLANK = {"_forgotten": True}


class Event:
    """Something that happened in a loop.

    ``at`` and ``received_at`` are milliseconds since the epoch. An event has ``seq`` 0 until the log has
    committed it; from then on it never changes. ``data`` of an event of the log is parsed only when somebody
    asks: most readers are given ``json`` as it was stored.
    """

    __slots__ = (
        "_data",
        "_json",
        "at",
        "id",
        "prd_id",
        "project",
        "received_at",
        "run_id",
        "seq",
        "session_id",
        "source",
        "story_id",
        "type",
    )

    def __init__(
        self,
        type: str,  # noqa: A002 - the wire format's word, promised to bus handlers as `event.type`
        data: dict[str, Any] | None = None,
        id: str = "",  # noqa: A002 - the wire format's word
        project: str | None = None,
        prd_id: str | None = None,
        story_id: str | None = None,
        run_id: str | None = None,
        session_id: str | None = None,
        source: str = "",
        at: int = 0,
        received_at: int = 0,
        seq: int = 0,
        json: str | None = None,
    ) -> None:
        self.type = type
        self._data = data
        self.id = id
        self.project = project
        self.prd_id = prd_id
        self.story_id = story_id
        self.run_id = run_id
        self.session_id = session_id
        self.source = source
        self.at = at
        self.received_at = received_at
        self.seq = seq
        self._json = json

    @property
    def data(self) -> dict[str, Any]:
        # By way of locals: another thread may ask as well, or blank the event meanwhile.
        data, json = self._data, self._json
        if data is None:
            data = self._data = {} if json is None else orjson.loads(json)["data"]
        return data

    @data.setter
    def data(self, value: dict[str, Any]) -> None:
        self._data = value
        self._json = None

    @property
    def timestamp(self) -> str:
        """When it happened, RFC 3339 in UTC with milliseconds."""
        return rfc3339(self.at)

    @property
    def json(self) -> str:
        """The wire form. Made once, when the log has numbered the event, and shared by every reader."""
        if self._json is None:
            self._json = orjson.dumps(self.as_dict()).decode()
        return self._json

    def as_dict(self) -> dict[str, Any]:
        """The wire form as a dict, in the documented order of keys."""
        return {
            "seq": self.seq,
            "id": self.id,
            "type": self.type,
            "project": self.project,
            "prd_id": self.prd_id,
            "story_id": self.story_id,
            "run_id": self.run_id,
            "session_id": self.session_id,
            "source": self.source,
            "timestamp": rfc3339(self.at),
            "received_at": rfc3339(self.received_at),
            "data": self.data if self._data is None else self._data,
        }

    def same_content(self, other: Event) -> bool:
        """Whether publishing ``other`` under this event's id is a repetition, not a conflict.

        The log fills in ``run_id`` and ``story_id`` where a publisher left them out, so an absent one agrees with any.
        """
        return (
            self.type == other.type
            and self.project == other.project
            and self.prd_id == other.prd_id
            and (other.story_id is None or self.story_id == other.story_id)
            and self.session_id == other.session_id
            and (other.run_id is None or self.run_id == other.run_id)
            and self.data in (other.data, BLANK)  # what it was before it was blanked nobody knows any more
        )

    @property
    def forgets(self) -> bool:
        """Whether this event made everything before it of its PRD forgotten. One that came from elsewhere does not:
        whatever was not refused of it is marked in its data."""
        return self.type == FORGOTTEN and self.prd_id is not None and not self.data

    def is_forgotten_by(self, event: Event) -> bool:
        """Whether ``event``, which forgets, is about this one. Those that forget have nothing to lose."""
        same = self.prd_id == event.prd_id and self.project == event.project
        return same and self.seq < event.seq and not self.forgets

    def blank(self) -> None:
        """Let go of the data; who holds the event sees it so from now on."""
        self._data = dict(BLANK)
        self._json = orjson.dumps(self.as_dict()).decode()

    def unstore(self, run_id: str | None, story_id: str | None) -> None:
        """Take back what the log filled in, after a commit that failed; the ids are the publisher's."""
        self.seq = 0
        self.received_at = 0
        self.run_id = run_id
        self.story_id = story_id
        self.data = self.data  # what is written of it bears the number

    def __repr__(self) -> str:
        return f"<Event {self.seq or 'unstored'} {self.type} {self.id}>"


def write_json(events: Iterable[Event]) -> None:
    """Make the wire form of events that the log has just numbered, and let go of what it was made of."""
    dumps = orjson.dumps
    for event in events:
        # As `as_dict`, spelled out: a call less for each event of a commit.
        event._json = dumps(  # noqa: SLF001 - of the class above
            {
                "seq": event.seq,
                "id": event.id,
                "type": event.type,
                "project": event.project,
                "prd_id": event.prd_id,
                "story_id": event.story_id,
                "run_id": event.run_id,
                "session_id": event.session_id,
                "source": event.source,
                "timestamp": rfc3339(event.at),
                "received_at": rfc3339(event.received_at),
                "data": event.data,
            }
        ).decode()
        # Few ask for it again, and thousands of events are kept in memory for their readers.
        event._data = None  # noqa: SLF001 - likewise

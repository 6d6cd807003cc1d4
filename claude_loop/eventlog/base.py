"""The port of the event log: what every backend honours, and what one contract suite checks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

from claude_loop.errors import ClaudeLoopError
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter
from claude_loop.ids import Cursor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogState:
    """Where a log stands. An empty log has ``first == head + 1``; ``trimmed_digest`` belongs to ``first - 1``."""

    epoch: str
    first: int
    head: int
    head_digest: str
    trimmed_digest: str

    @property
    def head_cursor(self) -> Cursor:
        return Cursor(self.epoch, self.head, self.head_digest)

    @property
    def trimmed_cursor(self) -> Cursor:
        """The position just before the oldest event kept."""
        return Cursor(self.epoch, self.first - 1, self.trimmed_digest)


class Appended(NamedTuple):
    """The outcome for one event: its ``seq``, or the reason why nothing was stored (``seq`` 0)."""

    seq: int
    duplicate: bool = False
    error: ClaudeLoopError | None = None


class SpoolOffset(NamedTuple):
    """How far a spool file has been read. ``offset`` None forgets the file."""

    name: str
    inode: int
    offset: int | None


class Entities(Protocol):
    """The documents of the read model as one commit finds and leaves them. Keys sort; documents are JSON objects."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The document, or None. The caller must not change it in place."""

    def put(self, key: str, document: dict[str, Any]) -> None:
        """Store a document; it becomes visible to readers with the commit, or never."""

    def remove(self, key: str) -> None:
        """Let a document be gone; likewise."""

    def under(self, prefix: str) -> list[str]:
        """The keys there are that start with ``prefix``. Slow: it asks the storage."""


# By the prefix of their keys: a document of that kind as it is born.
FirstValues = Mapping[str, Mapping[str, Any]]


class Projection(Protocol):
    """Folds events into the read model, which is stored in the transaction that stores them."""

    @property
    def first_values(self) -> FirstValues:
        """How documents are born. One that lacks a field was stored by an earlier version; it is given the first value,
        which is what a rebuild would give it unless an event of the log fills it."""

    def apply(self, events: Sequence[Event], entities: Entities) -> None:
        """Fill in each event's ``run_id``, and an observer's ``story_id``, where it was left out, and fold them in.

        Called with every event once, in ``seq`` order, from the writer. Deterministic: the same events give the same
        documents, however they are cut into calls. Must leave ``entities`` untouched if it raises; the caller then
        takes back what was filled in and calls again with one event at a time.
        """


class NoProjection:
    """For logs without a read model."""

    first_values: FirstValues = MappingProxyType({})

    def apply(self, events: Sequence[Event], entities: Entities) -> None:
        del events, entities


class ReadPage(NamedTuple):
    """Matching events in order, the position up to which the log was searched for them, and the log's
    oldest ``seq`` in the same snapshot: with ``after < first - 1`` events were trimmed before they were read."""

    events: list[Event]
    upto: int
    first: int


CommitListener = Callable[[list[Event], LogState], None]
# The documents that a commit stored, by key; None for one that is gone. Not to be changed: others hold them too.
Stored = Mapping[str, dict[str, Any] | None]
DocumentListener = Callable[[Stored, LogState], None]


def nobody(events: list[Event], state: LogState) -> None:
    """The listener of a log that is not open."""
    del events, state


def no_watcher(documents: Stored, state: LogState) -> None:
    """The document listener of a log whose documents nobody watches."""
    del documents, state


class DocumentsAtOnce(Protocol):
    """The read model as it stands at one moment."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The document, or None."""

    def under(self, prefix: str) -> dict[str, dict[str, Any]]:
        """The documents whose key starts with ``prefix``, in order of keys."""


class Chain:
    """Appends of one publisher, in order, of which none may be stored once one before it has failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the event loop and the log's thread may break it
        self._length = 0
        self._broken: tuple[int, ClaudeLoopError] | None = None

    def place(self) -> int:
        """That of the next append."""
        self._length += 1
        return self._length

    def insist(self, place: int) -> None:
        """Raises what has broken the chain before this place."""
        broken = self._broken
        if broken is not None and place > broken[0]:
            raise broken[1]

    def break_at(self, place: int, reason: ClaudeLoopError) -> None:
        """The append at this place has failed."""
        with self._lock:
            if self._broken is None or place < self._broken[0]:
                self._broken = place, reason


class EventLog(Protocol):
    """An append-only, gapless, deduplicated sequence of events with a read model beside it.

    Called from one event loop. ``seq`` starts at 1. What is refused is refused with an error of ``errors.py``.
    """

    projection: Projection
    on_documents: DocumentListener
    """Hears of the documents of each commit just before the commit's listener does."""

    async def open(self, listener: CommitListener) -> None:
        """Open or create. ``listener`` hears of each commit that stored events, in order, on the event loop,
        before the publishers of that commit get their answers; and of each pruning, with no events."""

    async def close(self) -> None:
        """Finish what was submitted, mark the stop as clean, release everything."""

    @property
    def state(self) -> LogState:
        """As of the last commit announced on the event loop."""

    @property
    def failure(self) -> ClaudeLoopError | None:
        """Why the log cannot be written at the moment; None while it can."""

    def append(self, events: Sequence[Event]) -> asyncio.Future[list[Appended]]:
        """Queue events for the next commit, in the order of calls; the future answers after the commit.

        Each event has an id. Sets ``seq``, ``received_at`` and ``json`` of those stored. Fails with a ``LoadError``
        when the storage does; then nothing was stored.
        """

    def append_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        """As ``append``, of the events that ``make`` makes, ``most`` at most, just before they are numbered.

        For many events: those that one thread makes and numbers are still at hand there. ``make`` may be called in
        another thread; what it raises fails this append, a ``ClaudeLoopError`` as it is, anything else as ``Internal``.
        ``offsets`` are stored in the same transaction. Once it has failed, what follows in its ``chain`` fails too."""

    async def read(
        self, after: int, limit: int, filter_: Filter = MATCH_ALL, *, max_bytes: int | None = None
    ) -> ReadPage:
        """Up to ``limit`` matching events with ``seq > after``, ascending; at least one if there is one.

        ``max_bytes`` bounds the JSON of all but the first. ``upto`` is the last event's ``seq`` if the page is
        full, else the announced head at the time of the call: nothing unannounced is ever read."""

    async def read_backwards(
        self,
        before: int | None,
        limit: int,
        filter_: Filter = MATCH_ALL,
        *,
        text: str | None = None,
        within: int | None = None,
    ) -> list[Event]:
        """Up to ``limit`` matching events with ``seq < before`` (None: from the head), newest first. ``within``:
        among so many positions below ``before`` at most."""

    async def search(
        self, after: int, limit: int, filter_: Filter, text: str, *, within: int | None = None
    ) -> ReadPage:
        """As ``read``, for events whose JSON contains ``text``, regardless of case. ``within``: among so many
        positions behind ``after`` at most; ``upto`` of a page that is not full then ends there."""

    async def position_since(self, received_ms: int) -> int:
        """The position from which a reader sees every event received at or after ``received_ms``."""

    async def digest_at(self, seq: int) -> str | None:
        """``id_digest`` of the event at ``seq``, also at the trim edge and at 0; None if it is not known."""

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        """The read model's documents whose key starts with ``prefix``, in order of keys."""

    async def snapshot(self, choose: Callable[[DocumentsAtOnce], T]) -> tuple[int, T]:
        """What ``choose`` takes from the read model, and the ``seq`` of the last event in it, of one moment.

        That event may be newer than the head announced so far. ``choose`` may run in another thread."""

    async def trimmed_entities(self, prefix: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """The documents as they stood at the trim edge, and the position of that edge: what the oldest event kept
        applies to."""

    async def spool_offsets(self) -> list[SpoolOffset]:
        """The stored offsets of all spool files."""

    async def prune(self, keep_from_ms: int, keep_events: int, step: int) -> int:
        """Forget at most ``step`` of the oldest events beyond retention, after folding them into the
        snapshot at the trim edge. Returns how many went."""

    async def blank(self, step: int) -> bool:
        """Blank the data of at most ``step`` events that an event which ``forgets`` has made forgotten, and in the end
        let the snapshot at the trim edge forget too. False when nothing is left to do. What was begun before a crash
        is gone on with."""

    async def rebuild(self) -> int:
        """Make the read model anew from the snapshot at the trim edge and the log; returns the events folded."""

    async def statistics(self) -> dict[str, Any]:
        """Sizes and commit figures for ``/status``: ``{"events", "bytes", "commits", "commit_ms": {...}}``."""

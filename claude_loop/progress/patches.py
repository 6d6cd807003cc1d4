"""The stream of patches: from events to what a page, a replay or an exported file applies, passing time included."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

from claude_loop.events import Event
from claude_loop.progress.documents import Patch
from claude_loop.progress.draft import Document
from claude_loop.progress.keys import KEPT, prd_prefixes
from claude_loop.progress.passing import next_change_by_key, shown_by_key
from claude_loop.progress.reading import moment_of
from claude_loop.progress.reducer import difference, fold_one


def apply_patches(documents: dict[str, Document], patches: Iterable[Patch]) -> None:
    """Apply in order. ``documents`` and the objects in it are changed in place; those inside ``patches`` are not."""
    for patch in patches:
        path, value = patch["path"], patch["value"]
        if len(path) == 2:
            documents[path[0]][path[1]] = value
        elif value is None:
            documents.pop(path[0], None)
        else:
            documents[path[0]] = dict(value)


class PatchMaker:
    """Turns events, and the time between them, into patches whose ``at`` never goes back.

    The documents it describes are those of the read model as they are *shown*: with ``stalled`` and ``overdue``.
    ``documents`` is the state to begin from; none is the state before any event.
    """

    def __init__(self, stalled_after_ms: int, documents: dict[str, Document] | None = None) -> None:
        self._stalled_after_ms = stalled_after_ms
        self._documents = {} if documents is None else documents.copy()
        self._due: dict[str, int] = {}  # when time will change a document next
        self._clock = 0
        self._seq = 0
        for key, document in self._documents.items():
            self._watch(key, document)

    def event(self, event: Event) -> list[Patch]:
        """The patches of one event, after those of the time since the last one."""
        patches = self.advance(moment_of(event))
        moment = self._clock
        self._seq = event.seq
        if event.forgets:
            return patches + self._forget(event)
        documents = fold_one(event, self._documents.get)
        for key, after in documents.items():
            before = self._documents.get(key)
            if not key.startswith(KEPT):
                patches += difference(key, self._shown(key, before), self._shown(key, after), event.seq, moment)
            if after is None:
                self._let_go(key)
            else:
                self._documents[key] = after
                self._watch(key, after)
        return patches

    def _forget(self, event: Event) -> list[Patch]:
        own, *prefixes = prd_prefixes(event.project, event.prd_id or "")
        keys = [key for key in self._documents if key == own or key.startswith(tuple(prefixes))]
        for key in keys:
            self._let_go(key)
        told = [key for key in keys if not key.startswith(KEPT)]
        return [{"seq": event.seq, "at": self._clock, "path": [key], "value": None} for key in told]

    def _let_go(self, key: str) -> None:
        self._documents.pop(key, None)
        self._due.pop(key, None)

    def advance(self, now_ms: int) -> list[Patch]:
        """The patches of time alone up to ``now_ms``, each at its own moment."""
        patches: list[Patch] = []
        while self._due:
            moment = min(self._due.values())
            if moment > now_ms:
                break
            # Together: once the clock stands there, none of them shows any more how it was before.
            before = {key: self._shown(key, self._documents[key]) for key, due in self._due.items() if due == moment}
            self._clock = moment
            for key in sorted(before):
                document = self._documents[key]
                patches += difference(key, before[key], self._shown(key, document), self._seq, moment)
                self._watch(key, document)
        self._clock = max(self._clock, now_ms)
        return patches

    def _shown(self, key: str, document: Document) -> Document:
        return None if document is None else shown_by_key(key, document, self._clock, self._stalled_after_ms)

    def _watch(self, key: str, document: Document) -> None:
        due = next_change_by_key(key, document, self._clock, self._stalled_after_ms)
        if due is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due


async def prd_patches(
    events: AsyncIterable[Event],
    project: str | None,
    prd_id: str,
    *,
    stalled_after_ms: int,
    now_ms: int | None = None,
    after_seq: int = 0,
    documents: dict[str, Document] | None = None,
) -> AsyncIterator[Patch]:
    """The patches of one PRD from its events in order of ``seq``; events of others are passed over.

    Ends with what time has changed up to ``now_ms``. ``events`` must begin at the PRD's first one, or where
    ``documents`` stood. What was before the event ``after_seq`` is made but not given; what time changed since then
    is, even if the asker had it: applying it again is harmless.
    """
    maker = PatchMaker(stalled_after_ms, documents)
    async for event in events:
        if event.prd_id == prd_id and event.project == project:
            patches = maker.event(event)
            if event.seq > after_seq:
                for patch in patches:
                    yield patch
    if now_ms is not None:
        for patch in maker.advance(now_ms):
            yield patch

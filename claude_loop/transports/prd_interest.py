"""Which PRDs a client of `subscribe_prd` holds, and what it has already been sent of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from claude_loop.errors import InvalidRequest
from claude_loop.events import Event
from claude_loop.filters import MATCH_ALL, Filter

EVERY_PRD = "*"
MAX_PRDS = 100


class PrdKey(NamedTuple):
    """A PRD a client asked for. Without a project it means the PRDs of that name in all of them."""

    project: str | None
    prd_id: str

    def covers(self, event: Event) -> bool:
        return self.prd_id in (EVERY_PRD, event.prd_id) and self.project in (None, event.project)

    def as_filter(self) -> Filter:
        """Its events and no others: what `history` means."""
        return Filter(
            prd_ids=() if self.prd_id == EVERY_PRD else (self.prd_id,),
            projects=() if self.project is None else (self.project,),
        )


class PrdInterest:
    """The PRDs held. Positions are ``seq`` numbers; an event is sent to a client once, live or as history."""

    def __init__(self) -> None:
        self._since: dict[PrdKey, int] = {}
        self._live = (0, 0)

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, prd_id: str) -> bool:
        return any(key.prd_id == prd_id for key in self._since)

    @property
    def prd_ids(self) -> set[str]:
        return {key.prd_id for key in self._since}

    def saw_everything(self, after: int, upto: int) -> None:
        """The client was sent all events in between, before it asked for a PRD."""
        self._live = (after, upto)

    def add(self, key: PrdKey, position: int) -> None:
        """Hold ``key`` from ``position`` on. Raises ``InvalidRequest`` when there are too many."""
        if key not in self._since and len(self._since) >= MAX_PRDS:
            raise InvalidRequest(
                f"A client holds at most {MAX_PRDS} PRDs.", field="prd_id", hint='Subscribe to "*", or use `subscribe`.'
            )
        self._since.setdefault(key, position)

    def unsent(self, key: PrdKey, newest_first: Sequence[Event]) -> list[Event]:
        """Of the last events of ``key``, those that were not sent yet, oldest first. From now on they count as sent."""
        past = [event for event in reversed(newest_first) if not self._was_sent(event)]
        if newest_first:
            self._since[key] = min(self._since[key], newest_first[-1].seq - 1)
        return past

    def remove(self, prd_id: str, project: str | None) -> None:
        """Give up one PRD; without a project, all of that name."""
        for key in [key for key in self._since if key.prd_id == prd_id and project in (None, key.project)]:
            del self._since[key]

    def _was_sent(self, event: Event) -> bool:
        after, upto = self._live
        return after < event.seq <= upto or any(
            event.seq > since and key.covers(event) for key, since in self._since.items()
        )

    def wants(self, event: Event) -> bool:
        return event.prd_id is None or any(key.covers(event) for key in self._since)

    @property
    def is_exact(self) -> bool:
        """Whether the filter alone tells what is wanted."""
        return all(project is None for project, _ in self._since)

    def as_filter(self) -> Filter:
        """What is wanted, or somewhat more: a filter cannot pair projects with PRDs."""
        if EVERY_PRD in self:
            return MATCH_ALL
        return Filter(prd_ids=tuple(sorted(self.prd_ids)), or_without_prd=True)

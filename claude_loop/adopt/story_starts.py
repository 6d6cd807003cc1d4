"""Which story of a plan is at work, and since when: what follows from what passes and from when iterations began.

The daemon may hear of both late and in any order, so only the times count: an iteration that began before a story had
passed was of that story, whenever either is heard of.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from claude_loop.events import Event


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt at a story: when it began, and with which iteration if that is known."""

    at: int
    iteration: int | None = None


@dataclass(slots=True)
class StoryStarts:
    """``since``: when the last story passed, or the run began; iterations from then on are of the next one.

    ``begun``: what was told as started and not as done, with the moment. Times are milliseconds since the epoch.
    """

    since: int
    passed_at: int | None = None
    begun: dict[str, int] = field(default_factory=dict)
    _current: str | None = None
    _told: int = 0  # attempts at it, since then
    _taken: int = 0  # iterations that were known when the last was told
    _iterations: list[Start] = field(default_factory=list)
    _heard: int = 0

    def recall(self, told: list[Event], iterations: list[Event]) -> None:
        """As it stands in the log; ``told`` are the starts and completions of the plan's source, both oldest first.

        A start with ``until`` is of a story that had passed before it was seen to begin: it was never next.
        """
        for event in iterations:
            self.hear(event)
        for event in told:
            story_id = event.story_id or ""
            if event.type == "story.completed":
                self.passed(story_id, event.at)
            elif event.type == "story.started" and "until" not in event.data:
                if story_id != self._current:  # the plan turned up, was extended or in another order: since then
                    self.since = max(self.since, event.at)
                self._told = self._told + 1 if story_id == self._current else 1
                self._current, self.begun[story_id] = story_id, event.at
                self._taken = sum(begun.at >= self.since and begun.seq < event.seq for begun in iterations)

    def hear(self, event: Event) -> None:
        """An iteration has begun; what was read from the log comes from the subscription once more."""
        number = event.data.get("iteration")
        if type(number) is int and event.seq > self._heard:
            self._heard = event.seq
            self._iterations.append(Start(event.at, number))

    def passed(self, story_id: str, at: int) -> None:
        """A story is done. One that was told as started and is not what was done is next, from now on."""
        self.begun.pop(story_id, None)
        self.passed_at = at
        self.since = max(self.since, at)
        self._taken = 0
        if self._current == story_id:
            self._current = None
        self._told = 0 if self._current is None else 1

    def due(self, story_id: str) -> list[Start]:
        """The attempts at the story that comes next which are still to be told; they then count as told."""
        begun = [start for start in self._iterations if start.at >= self.since]
        if self._current is not None and self._current != story_id:
            if len(begun) <= self._taken:
                return []  # the order has changed; whoever works goes on with what was begun
            begun = begun[self._taken :]
            self.since = begun[0].at
        if self._current != story_id:
            self._current, self._told = story_id, 0
        self._iterations, self._taken = begun, len(begun)
        # The first iteration is the one that the story's beginning was meant for; each later one is another attempt.
        starts = (begun or [Start(self.since)])[self._told :]
        self._told += len(starts)
        if starts:
            self.begun[story_id] = starts[-1].at
        return starts

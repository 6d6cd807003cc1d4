"""One fact, one event: a commit, a test run or an agent's use that several report is stored once.

An agent's hook, the git watch, the output of the loop and its script all see the same commit. The first report is the
event; the others are answered with its ``seq``, as a repeated id is. A source may be matched with a fact once: what it
reports again under another id happened again. After a restart the facts are found in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from claude_loop.events import FORGOTTEN, OBSERVERS, Event

COMMIT, TEST, USAGE = "commit.created", "test.run", "usage.reported"
FACTS = frozenset({COMMIT, TEST, USAGE, FORGOTTEN})

# Git's own shortest abbreviation of a hash; less than this may be another commit's.
SHORTEST_HASH = 7
# A hook, the output and a script tell of a test run within this time; the same counts later are another run.
WITHIN_MS = 60_000
# A script may round what an agent has cost; two costs that agree so far within a minute are one.
COST_DIGITS = 4
# Of one PRD. A run with more commits than this since it began may see the oldest reported twice.
MOST_COMMITS = 2000
MOST_TESTS = 200  # and as many reports of use
MOST_PRDS = 256

# The newest events of a type in a PRD: (project, prd_id, type, most), newest first.
Recent = Callable[[str | None, str | None, str, int], Iterable[Event]]


class Fact:
    """A stored commit, test run or report of use, as far as another report of it is compared with it."""

    __slots__ = ("at", "bucket", "hash", "matched", "run_id", "seq", "source", "story_id")

    def __init__(self, event: Event, seq: int, bucket: Any, hash_: str, story_id: str | None) -> None:
        self.bucket = bucket
        self.hash = hash_
        self.seq = seq
        self.source = event.source
        self.at = event.at
        self.run_id = event.run_id
        self.story_id = story_id
        self.matched: dict[str, str] | None = None  # source → the id under which it has reported this

    def is_told_by(self, event: Event, hash_: str, story_id: str | None) -> bool:
        if event.source == self.source:
            return False
        if self.matched is not None and self.matched.get(event.source, event.id) != event.id:
            return False
        stories_agree = story_id is None or self.story_id is None or story_id == self.story_id
        # What an observer takes for the story of a commit is no second commit.
        if not stories_agree and not (hash_ and event.source in OBSERVERS):
            return False
        if hash_:
            return self.hash.startswith(hash_) or hash_.startswith(self.hash)
        runs_agree = event.run_id is None or self.run_id is None or event.run_id == self.run_id
        return runs_agree and abs(event.at - self.at) <= WITHIN_MS


class PrdFacts:
    """The facts of one PRD, by what reports of one have in common; the oldest of each kind is forgotten first."""

    __slots__ = ("_commits", "_tests", "_usages", "buckets", "sole_source")

    def __init__(self) -> None:
        self.buckets: dict[Any, list[Fact]] = {}
        # Who has told of all of them; None if several have: of most PRDs one does, and repeats nobody.
        self.sole_source: str | None = ""
        self._commits: deque[Fact] = deque()
        self._tests: deque[Fact] = deque()
        self._usages: deque[Fact] = deque()

    def add(self, fact: Fact) -> None:
        if fact.source != self.sole_source:
            self.sole_source = None if self.buckets else fact.source
        bucket = self.buckets.get(fact.bucket)
        if bucket is None:
            self.buckets[fact.bucket] = [fact]
        else:
            bucket.append(fact)
        kept, most = (self._commits, MOST_COMMITS) if fact.hash else (self._tests, MOST_TESTS)
        if fact.bucket[0] is USAGE:
            kept = self._usages
        kept.append(fact)
        if len(kept) > most:
            oldest = kept.popleft().bucket
            others = self.buckets[oldest]
            if len(others) == 1:
                del self.buckets[oldest]
            else:
                del others[0]  # a bucket's facts are of one kind, the oldest first


class Facts:
    """The facts of the PRDs that were heard of lately, as one writer knows them."""

    def __init__(self, recent: Recent) -> None:
        self._recent = recent
        self._prds: dict[tuple[str | None, str | None], PrdFacts] = {}
        # Those of the commit that is being numbered: run and story are filled in at the end of that.
        self._new: list[Fact] = []
        self._new_events: list[Event] = []

    def first_seq(self, event: Event, first: int, seq: int) -> int:
        """The ``seq`` of the stored event that tells the same; events before ``first`` are gone.

        0 if there is none: then this is the first, to be stored as ``seq``.
        """
        if event.type == FORGOTTEN:
            if event.forgets:
                self._prds[event.project, event.prd_id] = PrdFacts()
            return 0
        bucket, hash_ = _bucket_of(event)
        if bucket is None:
            return 0
        ids = event.project, event.prd_id
        prd = self._prds.get(ids)
        if prd is None:
            prd = self._prds[ids] = self._load(*ids)
        story_id, source = event.story_id or _story_in_data(event), event.source
        for fact in () if source == prd.sole_source else prd.buckets.get(bucket, ()):
            # Nearly all are the source's own; the rule is in `is_told_by`.
            if fact.source != source and fact.seq >= first and fact.is_told_by(event, hash_, story_id):
                fact.matched = {**(fact.matched or {}), source: event.id}
                return fact.seq
        fact = Fact(event, seq, bucket, hash_, story_id)
        prd.add(fact)
        self._new.append(fact)
        self._new_events.append(event)
        return 0

    def settle(self) -> None:
        """The events of a commit are folded: their runs and stories are known."""
        if not self._new:
            return
        for fact, event in zip(self._new, self._new_events, strict=True):
            fact.run_id = event.run_id
            fact.story_id = event.story_id or fact.story_id
        self._new.clear()
        self._new_events.clear()
        while len(self._prds) > MOST_PRDS:
            del self._prds[next(iter(self._prds))]

    def discard(self) -> None:
        """Forget everything: after a failure what is stored is the only truth."""
        self._prds.clear()
        self._new.clear()
        self._new_events.clear()

    def _load(self, project: str | None, prd_id: str | None) -> PrdFacts:
        loaded = PrdFacts()
        forgotten = max((e.seq for e in self._recent(project, prd_id, FORGOTTEN, 10) if e.forgets), default=0)
        for type_, most in ((COMMIT, MOST_COMMITS), (TEST, MOST_TESTS), (USAGE, MOST_TESTS)):
            for event in reversed(list(self._recent(project, prd_id, type_, most))):
                bucket, hash_ = _bucket_of(event)
                if bucket is not None and event.seq > forgotten:
                    story_id = event.story_id or _story_in_data(event)
                    loaded.add(Fact(event, event.seq, bucket, hash_, story_id))
        return loaded


def newest(events: Sequence[Event], project: str | None, prd_id: str | None, type_: str, most: int) -> list[Event]:
    """``Recent`` over a plain list."""
    found: list[Event] = []
    for event in reversed(events):
        if len(found) == most:
            break
        if event.type == type_ and event.prd_id == prd_id and event.project == project:
            found.append(event)
    return found


def _bucket_of(event: Event) -> tuple[Any, str]:
    """What reports of one fact have in common, and the hash of a commit; None if it cannot be told from others."""
    if event.prd_id is None and event.project is None:
        return None, ""
    data = event.data
    if event.type == TEST:
        passed, failed = data.get("passed"), data.get("failed")
        if type(passed) is int and type(failed) is int:
            return (passed, failed), ""
        return None, ""
    if event.type == USAGE:
        return _bucket_of_usage(data), ""
    hash_ = data.get("commit_hash")
    if type(hash_) is str and len(hash_) >= SHORTEST_HASH:
        hash_ = hash_.lower()
        return hash_[:SHORTEST_HASH], hash_
    return None, ""


def _bucket_of_usage(data: dict[str, Any]) -> Any:
    cost = data.get("cost_usd")
    if type(cost) is float or type(cost) is int:
        return USAGE, round(cost, COST_DIGITS)
    tokens = data.get("input_tokens"), data.get("output_tokens")
    return (USAGE, *tokens) if type(tokens[0]) is type(tokens[1]) is int else None


def _story_in_data(event: Event) -> str | None:
    """An event that was spooled in a wrong form may name its story in its data alone."""
    story_id = event.data.get("story_id")
    return story_id if type(story_id) is str and story_id else None

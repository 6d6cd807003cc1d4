"""What must hold afterwards, whatever was done to the daemon: pure functions over what was stored, promised and seen.

Acknowledged means delivered exactly once, or a `reset` said so; numbers rise without a gap; all readers agree.
Each function raises ``Violation`` with a sample of what contradicts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# What a reader was given: an event as (seq, id), or the reason of a reset.
Entry = tuple[int, str] | str
Stored = Sequence[tuple[int, str]]


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass
class Transcript:
    """All that one reader was told, in order, over all its connections."""

    name: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def events(self) -> list[tuple[int, str]]:
        return [entry for entry in self.entries if isinstance(entry, tuple)]

    @property
    def resets(self) -> list[str]:
        return [entry for entry in self.entries if isinstance(entry, str)]

    @property
    def head(self) -> int:
        """The last number it was given since the last reset; 0 for none."""
        last = self.entries[-1] if self.entries else ""
        return last[0] if isinstance(last, tuple) else 0

    def has_come_to(self, head: int) -> bool:
        """Whether it will be given nothing more while ``head`` is the newest. After any other reset than that of a trimmed
        log a reader goes on at the newest, and whether it had to be reset is for others to say."""
        last = self.entries[-1] if self.entries else 0
        return self.head >= head or (isinstance(last, str) and last != "trimmed")


def gapless(stored: Stored, first: int = 1) -> None:
    """Numbers rise by one from ``first``, and no id has two of them."""
    for expected, (seq, id_) in enumerate(stored, first):
        if seq != expected:
            raise Violation(f"the log has seq {seq} (id {id_}) where {expected} belongs")
    twice = [id_ for id_, count in Counter(id_ for _, id_ in stored).items() if count > 1]
    if twice:
        raise Violation(f"{len(twice)} ids are stored twice: {twice[:5]}")


def kept(
    acknowledged: Mapping[str, int], stored: Stored, transcripts: Sequence[Transcript] = (), first: int = 1
) -> None:
    """Each acknowledged id has the number that was promised; what is pruned must have been delivered under it."""
    at = {id_: seq for seq, id_ in stored}
    for transcript in transcripts:
        at |= {id_: seq for seq, id_ in transcript.events if seq < first and id_ not in at}
    wrong = {id_: (seq, at.get(id_)) for id_, seq in acknowledged.items() if at.get(id_) != seq}
    if wrong:
        lost = sum(found is None for _, found in wrong.values())
        sample = dict(list(wrong.items())[:5])
        raise Violation(f"{lost} acknowledged events are lost, {len(wrong) - lost} moved (promised, found): {sample}")


def exactly_once(expected: Iterable[object], found: Iterable[object], what: str = "records") -> None:
    """The same things, each as often: nothing lost, doubled or invented."""
    wanted, got = Counter(expected), Counter(found)
    if wanted != got:
        missing, surplus = wanted - got, got - wanted
        raise Violation(
            f"{missing.total()} {what} are lost: {list(missing)[:5]}; "
            f"{surplus.total()} are doubled or invented: {list(surplus)[:5]}"
        )


def in_order(transcript: Transcript) -> None:
    """Between two resets each number is one above the last: nothing lost, doubled or out of its place."""
    last: int | None = None
    for entry in transcript.entries:
        if isinstance(entry, str):
            last = None
            continue
        seq, id_ = entry
        if last is not None and seq != last + 1:
            kind = "a gap" if seq > last + 1 else "a repetition" if seq == last else "a step back"
            raise Violation(f"{transcript.name} saw {kind}: seq {seq} (id {id_}) after {last}, and no reset between")
        last = seq


def agree(transcripts: Sequence[Transcript], stored: Stored, *, since_reset: bool = False) -> None:
    """What readers saw is what is stored, the same for all.

    ``since_reset``: the log was replaced by another; what was seen before the last reset is not compared.
    """
    at: dict[int, str] = dict(stored)
    for transcript in transcripts:
        entries = transcript.entries
        if since_reset and transcript.resets:
            cut = max(place for place, entry in enumerate(entries) if isinstance(entry, str))
            entries = entries[cut:]
        for entry in entries:
            if isinstance(entry, tuple) and at.setdefault(*entry) != entry[1]:
                raise Violation(f"at seq {entry[0]} {transcript.name} saw {entry[1]}, others have {at[entry[0]]}")
        newest = max((seq for seq, _ in stored), default=0)
        beyond = [entry for entry in entries if isinstance(entry, tuple) and entry[0] > newest]
        if beyond:
            raise Violation(f"{transcript.name} saw {len(beyond)} events that the log does not have: {beyond[:5]}")


def complete(transcript: Transcript, upto: int) -> None:
    """The reader has come to ``upto``, and begins with the first event unless a reset said otherwise."""
    if transcript.head < upto:
        raise Violation(f"{transcript.name} has come to seq {transcript.head} of {upto}")
    first = transcript.entries[0]
    if isinstance(first, tuple) and first[0] != 1:
        raise Violation(f"{transcript.name} begins with seq {first[0]}, and no reset says why")

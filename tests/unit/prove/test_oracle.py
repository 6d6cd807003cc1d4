"""The oracle finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.prove import oracle
from tests.prove.oracle import Transcript, Violation

STORED = [(seq, f"id-{seq}") for seq in range(1, 8)]


def saw(*entries: int | str, name: str = "reader") -> Transcript:
    return Transcript(name, [entry if isinstance(entry, str) else (entry, f"id-{entry}") for entry in entries])


def test_what_is_right_passes() -> None:
    oracle.gapless(STORED)
    oracle.kept({"id-3": 3, "id-7": 7}, STORED)
    oracle.exactly_once(["a", "b"], ["b", "a"])
    readers = [saw(1, 2, 3, 4, 5, 6, 7), saw(1, 2, "trimmed", 5, 6, 7, name="other")]
    for reader in readers:
        oracle.in_order(reader)
        oracle.complete(reader, 7)
    oracle.agree(readers, STORED)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ([(1, "a"), (3, "b")], "seq 3"),
        ([(2, "a")], "seq 2"),
        ([(1, "a"), (1, "b")], "seq 1"),
        ([(1, "a"), (2, "a")], "stored twice"),
    ],
)
def test_a_log_with_a_gap_or_an_id_twice(stored: list[tuple[int, str]], says: str) -> None:
    with pytest.raises(Violation, match=says):
        oracle.gapless(stored)


def test_lost() -> None:
    with pytest.raises(Violation, match="1 acknowledged events are lost, 0 moved"):
        oracle.kept({"id-3": 3, "gone": 4}, STORED)
    with pytest.raises(Violation, match="1 records are lost"):
        oracle.exactly_once(["a", "b"], ["a"])
    with pytest.raises(Violation, match="a gap: seq 4"):
        oracle.in_order(saw(1, 2, 4))


def test_promised_one_number_and_stored_under_another() -> None:
    with pytest.raises(Violation, match="0 acknowledged events are lost, 1 moved"):
        oracle.kept({"id-3": 4}, STORED)


def test_doubled() -> None:
    with pytest.raises(Violation, match="1 are doubled"):
        oracle.exactly_once(["a"], ["a", "a"])
    with pytest.raises(Violation, match="a repetition"):
        oracle.in_order(saw(1, 2, 2))


def test_reordered() -> None:
    with pytest.raises(Violation, match="a step back"):
        oracle.in_order(saw(1, 2, 3, 1))


def test_a_reset_excuses_a_gap_but_not_what_follows() -> None:
    oracle.in_order(saw(1, "trimmed", 5, 6))
    with pytest.raises(Violation, match="a gap"):
        oracle.in_order(saw(1, "trimmed", 5, 7))


def test_readers_that_disagree() -> None:
    other = Transcript("other", [(1, "id-1"), (2, "another")])
    with pytest.raises(Violation, match="at seq 2 other saw another, others have id-2"):
        oracle.agree([saw(1, 2), other], STORED)
    # Also about an event that has left the log since.
    with pytest.raises(Violation, match="at seq 1 other saw x"):
        oracle.agree([saw(1), Transcript("other", [(1, "x")])], STORED[3:])


def test_seen_but_not_stored() -> None:
    with pytest.raises(Violation, match="1 events that the log does not have"):
        oracle.agree([saw(7, 8)], STORED)


def test_what_was_seen_of_a_log_that_was_replaced_is_not_compared() -> None:
    before = Transcript("reader", [(1, "old-1"), (9, "old-9"), "diverged", (2, "id-2")])
    oracle.agree([before], STORED, since_reset=True)
    with pytest.raises(Violation):
        oracle.agree([before], STORED)


def test_what_is_pruned_must_have_been_delivered() -> None:
    oracle.kept({"id-1": 1}, STORED[3:], [saw(1, 2, 3, 4)], first=4)
    with pytest.raises(Violation, match="1 acknowledged events are lost"):
        oracle.kept({"id-1": 1}, STORED[3:], [saw(2, 3, 4)], first=4)


def test_incomplete() -> None:
    with pytest.raises(Violation, match="has come to seq 6 of 7"):
        oracle.complete(saw(1, 2, 3, 4, 5, 6), 7)
    with pytest.raises(Violation, match="begins with seq 2"):
        oracle.complete(saw(2, 3, 4, 5, 6, 7), 7)


@pytest.mark.parametrize(
    ("entries", "has_come"),
    [
        ((1, 2, 3), True),
        ((1, 2), False),
        ((), False),
        ((1, "epoch"), True),  # nothing is published any more: it would wait for ever at the newest
        ((1, "trimmed"), False),
        ((1, "epoch", 2), False),
    ],
)
def test_whether_a_reader_will_be_given_more(entries: tuple[int | str, ...], has_come: bool) -> None:
    assert saw(*entries).has_come_to(3) is has_come

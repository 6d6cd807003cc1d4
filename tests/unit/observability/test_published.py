"""Counting what publishers sent."""

from claude_loop.clock import ManualClock
from claude_loop.errors import IdConflict, InvalidEvent
from claude_loop.eventlog.base import Appended
from claude_loop.observability.published import KEPT_REFUSALS, Published


def test_outcomes_are_stored_repeated_or_refused():
    published = Published(ManualClock())
    conflict = IdConflict("The id 'x' already names another event.", field="id")
    published.stored("http", [Appended(1), Appended(1, duplicate=True), Appended(2), Appended(0, error=conflict)])
    published.stored("socketio", [Appended(3)])
    statistics = published.statistics()
    assert statistics["stored"] == {"http": 2, "socketio": 1}
    assert statistics["duplicates"] == {"http": 1}
    assert statistics["refused"] == {"http": {"id_conflict": 1}}


def test_refusals_are_kept_newest_first_and_not_for_ever():
    clock = ManualClock()
    published = Published(clock)
    for n in range(KEPT_REFUSALS + 5):
        published.refused("http", InvalidEvent(f"number {n}", field="data"))
        clock.advance(1)
    kept = published.statistics()["last_refusals"]
    assert len(kept) == KEPT_REFUSALS
    assert kept[0]["message"] == f"number {KEPT_REFUSALS + 4}"
    assert kept[0]["at"] == "2026-01-26T12:00:54.000Z"
    assert published.statistics()["refused"] == {"http": {"invalid_event": KEPT_REFUSALS + 5}}


def test_a_long_message_is_kept_short():
    published = Published(ManualClock())
    published.refused("http", InvalidEvent("x" * 10_000))
    assert len(published.last_refusals[0].message) == 500

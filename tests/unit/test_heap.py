"""The memory of a process that runs for weeks."""

from __future__ import annotations

import gc

import pytest

from claude_loop import heap
from claude_loop.observability.series import memory_bytes


@pytest.mark.requires("linux")
def test_what_was_freed_below_something_used_is_given_back():
    pieces = [bytes(4000) for _ in range(10_000)]
    used = pieces.pop()
    before = memory_bytes()
    del pieces
    heap.give_back()
    assert before - memory_bytes() > 30_000_000
    assert used


def test_where_the_c_library_cannot_nothing_happens(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _name: object())
    heap.give_back()


def test_what_lives_when_the_heap_settles_is_not_looked_at_again():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        heap.settle()
        looked_at = {id(each) for each in gc.get_objects()}
        assert gc.get_freeze_count() > frozen
        assert id(heap.__dict__) not in looked_at
        assert gc.get_threshold() == heap.YOUNG_OBJECTS
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

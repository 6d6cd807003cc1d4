from claude_loop.events import Event
from claude_loop.ring import Ring


def events(first, last, size=0):
    return [Event("a.b", {"x": "y" * size}, id=f"e{seq}", seq=seq) for seq in range(first, last + 1)]


def test_slices_are_by_position():
    ring = Ring()
    ring.extend(events(5, 9))
    assert ring.covers(4)
    assert not ring.covers(3)
    assert [e.seq for e in ring.slice(4, 9)] == [5, 6, 7, 8, 9]
    assert [e.seq for e in ring.slice(6, 8)] == [7, 8]
    assert ring.slice(9, 9) == []
    assert ring.get(5).id == "e5"
    assert ring.get(4) is None
    assert ring.get(10) is None


def test_an_empty_ring_covers_nothing():
    ring = Ring()
    ring.extend([])
    assert not ring.covers(0)
    assert ring.get(1) is None


def test_it_is_bounded_by_count():
    ring = Ring(max_events=100)
    for start in range(1, 5000, 7):
        ring.extend(events(start, start + 6))
        assert len(ring) <= 100 * 9 // 8
    assert ring.get(start + 6) is not None
    assert ring.covers(start + 6 - 100)


def test_it_is_bounded_by_bytes_but_keeps_the_newest_event():
    ring = Ring(max_bytes=10_000)
    for seq in range(1, 200):
        ring.extend(events(seq, seq, size=500))
        assert sum(len(ring.get(s).json) for s in range(1, seq + 1) if ring.get(s)) <= 10_000 * 9 // 8
    ring.extend(events(200, 200, size=50_000))
    assert len(ring) == 1
    assert ring.get(200) is not None


def test_what_fits_is_kept_and_some_more_may_gather_before_it_is_moved_down():
    one = len(events(100, 100, size=500)[0].json)
    ring = Ring(max_bytes=40 * one)
    lengths = []
    for seq in range(100, 400):
        ring.extend(events(seq, seq, size=500))
        lengths.append(len(ring))
    assert lengths[:45] == list(range(1, 46))
    assert set(lengths[45:]) == {40, 41, 42, 43, 44, 45}


def test_events_that_do_not_follow_start_it_anew():
    ring = Ring()
    ring.extend(events(1, 3))
    ring.extend(events(7, 8))
    assert not ring.covers(3)
    assert ring.covers(6)

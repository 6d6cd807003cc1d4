"""The copy on disk: segments of one size, and what happens when there is no room."""

from __future__ import annotations

import resource
import signal
import time
from types import SimpleNamespace

import pytest

from claude_loop.run_files import CAME
from claude_loop.wrapper import tee as module
from claude_loop.wrapper import times
from claude_loop.wrapper.tee import Tee


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10)
    monkeypatch.setattr(times, "SEGMENT_BYTES", 10)
    monkeypatch.setattr(module, "MOST_SEGMENTS", 3)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)


def write(tee, data):
    tee.keep(data)
    tee.flush()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("output.*"))}


def noted(folder):
    """What the files of times say: at which position something came, and when."""
    return {path.name: list(CAME.iter_unpack(path.read_bytes())) for path in sorted(folder.glob("times.*"))}


@pytest.fixture
def moments(monkeypatch):
    """What the clock says, one after the other, in milliseconds."""
    moments = []
    clock = SimpleNamespace(time_ns=lambda: moments.pop(0) * 1_000_000, monotonic=time.monotonic)
    monkeypatch.setattr(module, "time", clock)
    return moments


def test_segments_are_filled_to_the_last_byte(tmp_path, small):
    tee = Tee(str(tmp_path))
    write(tee, b"0123456")
    write(tee, b"789abcdefghijkl")
    assert contents(tmp_path) == {
        "output.000001": b"0123456789",
        "output.000002": b"abcdefghij",
        "output.000003": b"kl",
    }
    assert (tmp_path / "output.000001").stat().st_mode & 0o777 == 0o600
    assert tee.lost == 0


def test_with_too_many_waiting_it_waits_too_and_says_what_is_missing(tmp_path, small, monkeypatch):
    tee = Tee(str(tmp_path))
    write(tee, b"x" * 30)
    write(tee, b"not kept")
    assert (tee.lost, len(contents(tmp_path))) == (8, 3)
    monkeypatch.setattr(module, "MOST_SEGMENTS", 20)
    write(tee, b"kept")
    text = b"".join(contents(tmp_path).values())
    assert b"8 bytes of output were not kept: too much of it waits for the daemon" in text.replace(b"\n", b"")
    assert text.endswith(b"kept")


def test_a_full_disk_is_noted_once_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    tee = Tee(str(tmp_path))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
        write(tee, b"0123456789")
        write(tee, b"lost too")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert tee.lost == 14
    write(tee, b"kept")
    assert contents(tmp_path)["output.000001"] == (
        b"0123\n[claude-loop: 14 bytes of output were not kept: File too large]\nkept"
    )


def test_no_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "output.000001").symlink_to(tmp_path / "elsewhere")
    tee = Tee(str(tmp_path))
    write(tee, b"data")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert tee.lost == 4


def test_lines_that_follow_each_other_closely_are_written_together(tmp_path):
    tee = Tee(str(tmp_path))

    def kept():
        return b"".join(contents(tmp_path).values())

    for number in range(7):
        tee.keep(b"%d" % number)
    assert (kept(), tee.held) == (b"", 7)
    tee.keep(b"7")
    assert (kept(), tee.held) == (b"01234567", 0)
    tee.keep(b"a line ")
    tee.keep(b"x" * 2000)
    assert kept() == b"01234567a line " + b"x" * 2000
    tee.keep(b"held")
    tee.flush()
    assert kept().endswith(b"xheld")
    tee.keep(b" to the end")
    tee.close()
    assert kept().endswith(b"xheld to the end")


def test_when_each_piece_came_is_noted_beside_it_once_a_millisecond(tmp_path, moments):
    tee = Tee(str(tmp_path))
    moments += [1000, 1000, 1044, 2500]
    for piece in (b"one\n", b"two\n", b"three\n"):
        tee.keep(piece)
    tee.flush()
    tee.keep(b"four\n")
    tee.close()
    assert noted(tmp_path) == {"times.000001": [(0, 1000), (8, 1044), (14, 2500)]}
    assert (tmp_path / "times.000001").stat().st_mode & 0o777 == 0o600


def test_the_times_of_each_segment_lie_beside_it(tmp_path, small, moments):
    tee = Tee(str(tmp_path))
    moments += [1, 2, 3]
    for piece in (b"0123456", b"789", b"abc"):
        write(tee, piece)
    assert noted(tmp_path) == {"times.000001": [(0, 1), (7, 2)], "times.000002": [(10, 3)]}


def test_times_that_cannot_be_noted_keep_no_output_back(tmp_path, moments):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "times.000001").symlink_to(tmp_path / "elsewhere")
    moments += [1, 2]
    tee = Tee(str(tmp_path))
    write(tee, b"one")
    write(tee, b"two")
    assert contents(tmp_path) == {"output.000001": b"onetwo"}
    assert ((tmp_path / "elsewhere").read_bytes(), tee.lost) == (b"precious", 0)


def test_of_a_segment_with_very_many_pieces_the_first_times_are_noted(tmp_path, moments, monkeypatch):
    monkeypatch.setattr(times, "_MOST", 2)
    moments += [1, 2, 3]
    tee = Tee(str(tmp_path))
    for _ in range(3):
        write(tee, b"x")
    assert noted(tmp_path) == {"times.000001": [(0, 1), (1, 2)]}

"""Copying one output of the command."""

from __future__ import annotations

import os

import pytest

from claude_loop.wrapper.streams import Stream
from claude_loop.wrapper.tee import Tee


@pytest.mark.parametrize(
    ("leaves", "shown"), [(False, b"one\r\ntwo\rthree\r\n"), (True, b"one\ntwo\rthree\n")], ids=["raw", "not raw"]
)
def test_line_ends_are_left_to_a_terminal_that_makes_its_own(tmp_path, leaves, shown):
    source, printed = os.pipe()
    showing, target = os.pipe()
    stream, tee = Stream(source, target, terminal=False), Tee(str(tmp_path))
    stream.leaves_line_ends = leaves
    os.write(printed, b"one\r\ntwo\rthree\r\n")
    stream.copy(tee)
    tee.close()
    assert os.read(showing, 100) == shown
    assert (tmp_path / "output.000001").read_bytes() == b"one\r\ntwo\rthree\r\n"
    for descriptor in (source, printed, showing, target):
        os.close(descriptor)

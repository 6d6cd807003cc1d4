"""What is read from an event's data, whatever it holds."""

from __future__ import annotations

import pytest

from claude_loop.progress.reading import line


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("  one\n\ttwo ", "one two"),
        ("\x1b[1;31mERROR\x1b[0m\x1b[K no network", "ERROR no network"),
        ("\x1b[31m\x1b[0m", None),
        ("x" * 20, "xxxxxxxxx…"),
        ("\x1b[2Jcleared", "\x1b[2Jclear…"),
        (7, None),
        (None, None),
    ],
)
def test_a_text_is_one_line_without_colours(value: object, read: str | None) -> None:
    assert line(value, 10 if read and read.endswith("…") else 30) == read

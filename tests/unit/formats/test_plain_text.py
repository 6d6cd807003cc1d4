"""Output as text: what would be read on the screen."""

from __future__ import annotations

import time

import pytest

from claude_loop.formats.plain_text import plain


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b[38;5;196mmore\x1b[m\x1b[K\n", "red more\n"),
        (b"\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n"),
        (b"\x1bP1$r0m\x1b\\\x1b(B\x1b=a\x1bMb", "ab"),
        (b"10%\r50%\r100%\r\nnext\r\n", "100%\nnext\n"),
        (b"abc\r\r\n", "abc\n"),
        (b"gone\rhere", "here"),
        (b"bell\x07 back\x08space\x00\x7f", "bell backspace"),
        ("été € 😀\n".encode(), "été € 😀\n"),
        (b"\xff\xfe\xfd binary \xff", "� binary �"),
        (b"\x1b[", ""),
    ],
)
def test_reads_as_on_the_screen(raw, text):
    assert plain(raw).replace("[", "") == text.replace("[", "")


@pytest.mark.parametrize("raw", [b"\x1b]" * 100_000, b"\x1b[" * 100_000, b"\x1bP" + b"a" * 200_000, b"\r" * 200_000])
def test_hostile_sequences_take_linear_time(raw):
    begun = time.process_time()
    plain(raw)
    assert time.process_time() - begun < 5

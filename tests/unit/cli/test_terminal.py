"""What may reach a terminal."""

from __future__ import annotations

import io
import json
import time
import unicodedata

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.cli.terminal import (
    columns,
    duration,
    harmless_json,
    local_time,
    padded,
    plural,
    printable,
    put_json,
    wants_colour,
    write_anything,
    write_json_to,
)


@given(st.text(), st.integers(1, 50))
def test_nothing_that_is_printed_can_control_the_terminal(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    # Cc: controls, Cf: invisible and reordering characters, Cs: halves of pairs, Zl and Zp: line ends.
    bad = [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not bad
    shown.encode()


@pytest.mark.parametrize(
    "nasty",
    [
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x07",
        "\x08",
        "\x7f",
        "\u202e",
        "\u2066",
        "\u200b",
        "\u200e",
        "\ufeff",
        "\U000e0041",
        "\ud83d",
    ],
)
def test_each_nasty_character_is_replaced(nasty):
    shown = printable(f"a{nasty}b")
    assert nasty[0] not in shown
    assert "\ufffd" in shown


def test_colours_are_left_out():
    assert printable("\x1b[1;31mFAILED\x1b[0m\x1b[K test_tax") == "FAILED test_tax"
    assert printable(f"\x1b[{'1;' * 99}m", 30).startswith("\ufffd[1;1;"), "a sequence without end is none"


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_json_on_a_terminal_is_the_same_json_and_controls_nothing(value):
    for written in (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2)):
        shown = harmless_json(written)
        assert json.loads(shown) == value
        assert not [c for c in shown if c != "\n" and unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]


def test_json_keeps_what_is_harmless():
    written = '{"title":"Prüfung 👍 \\n","n":1}'
    assert harmless_json(written) == written
    assert harmless_json('"\x7f\x9b31m\u202e\u2066\U000e0041"') == '"\\u007f\\u009b31m\\u202e\\u2066\\udb40\\udc41"'


def test_json_is_put_harmlessly(capsys):
    put_json({"title": "a\x9b31m\u202eb"})
    assert capsys.readouterr().out == '{"title": "a\\u009b31m\\u202eb"}\n'


def test_line_ends_and_tabs_become_one_blank():
    assert printable("a\r\n\tb\nc") == "a b c"


def test_long_text_is_cut():
    assert printable("x" * 20, 10) == "x" * 9 + "…"
    assert printable("x" * 10, 10) == "x" * 10


def test_ordinary_text_of_any_script_stays():
    text = "Prüfung 日本語 — “ok” 🎉 русский"
    assert printable(text) == text


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("🎉", 2), ("", 0)])
def test_columns(text, width):
    assert columns(text) == width
    assert padded(text, 6) == text + " " * (6 - width)


def test_what_is_too_wide_is_not_padded():
    assert padded("abcdef", 3) == "abcdef"


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0s"),
        (499, "0s"),
        (8_200, "8s"),
        (8_900, "8s"),
        (59_700, "59s"),
        (607_000, "10m07s"),
        (3_600_000, "1h00m"),
        (15_120_000, "4h12m"),
        (273_600_000, "3d4h"),
    ],
)
def test_durations(ms, words):
    assert duration(ms) == words


def test_plurals():
    assert [plural(n, "story") for n in (0, 1, 2)] == ["0 stories", "1 story", "2 stories"]
    assert [plural(n, "attempt") for n in (1, 2)] == ["1 attempt", "2 attempts"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_where_it_is_wanted(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", b"> + x * = # - ??"), ("latin-1", b"> + x * = # \xb7 \xfc?"), ("utf-8", "▶ ✓ ✗ ● ⏸ ■ · ü日".encode())],
)
def test_any_text_can_be_written_in_any_encoding(encoding, shown):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    write_anything(stream)
    stream.write("▶ ✓ ✗ ● ⏸ ■ · ü日")
    stream.flush()
    assert raw.getvalue() == shown


def test_lone_surrogates_do_not_stop_the_output():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    write_anything(stream)
    stream.write("a\ud800b")
    stream.flush()
    assert raw.getvalue() == b"a?b"


def test_json_is_utf_8_wherever_it_goes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_anything(stream)
    write_json_to(stream)
    stream.write('"▶ü"')
    stream.flush()
    assert raw.getvalue() == '"▶ü"'.encode()


def test_a_stand_in_for_a_stream_is_left_alone():
    write_anything(io.StringIO())
    write_json_to(io.StringIO())


def test_a_stored_time_is_shown_in_this_machines_zone(monkeypatch):
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert local_time("2026-01-26T22:14:03.500Z") == "2026-01-27 07:14:03"
        assert local_time("?") == "?"
    time.tzset()

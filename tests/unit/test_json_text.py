"""Half a character, which JSON can hold and UTF-8 cannot."""

from __future__ import annotations

import json

import pytest

from claude_loop.json_text import read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_whole_characters_stay_and_halves_are_replaced(encoding):
    text = '{"a\\ud800": ["\\ud83d\\ude00", "x\\uDC00y", {"b": "\\\\ud800 é"}], "n": 1}'
    value = read_json(text.encode(encoding))
    assert value == {"a\ufffd": ["\U0001f600", "x\ufffdy", {"b": "\\ud800 é"}], "n": 1}
    assert value == read_json(text)


def test_bytes_that_are_no_text_are_replaced():
    assert read_json(b'["\xed\xa0\x80", "\xff"]') == ["\ufffd\ufffd\ufffd", "\ufffd"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[" * 600 + '"\\ud800"' + "]" * 600])
def test_what_cannot_be_read(text):
    with pytest.raises(ValueError):
        read_json(text)
    assert json.loads("[]") == []

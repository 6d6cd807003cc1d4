"""Editing JSON as text: what is not changed keeps its every character."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.errors import InvalidJson
from claude_loop.formats.json_edit import add_item, line_of, parse, remove

PATH = ("hooks", "Stop")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}\n", '{\n  "hooks": {\n    "Stop": [\n      1\n    ]\n  }\n}\n'),
        ('{"a": 1}', '{"a": 1, "hooks": {"Stop": [1]}}'),
        ('{\n\t"a": 1\n}', '{\n\t"a": 1,\n\t"hooks": {\n\t\t"Stop": [\n\t\t\t1\n\t\t]\n\t}\n}'),
        ('{\r\n "a": 1\r\n}', '{\r\n "a": 1,\r\n "hooks": {\r\n  "Stop": [\r\n   1\r\n  ]\r\n }\r\n}'),
        ('{\n    "hooks": {}\n}', '{\n    "hooks": {\n        "Stop": [\n            1\n        ]\n    }\n}'),
        ('{\n  "hooks": { "Stop": [ 0 ] } ,\n  "b":2}', '{\n  "hooks": { "Stop": [ 0, 1 ] } ,\n  "b":2}'),
        ('{\n  "hooks": {\n    "Stop": []\n  }\n}', '{\n  "hooks": {\n    "Stop": [\n      1\n    ]\n  }\n}'),
        (
            '{\n  "é\\"": "}",\n  "hooks": {\n    "Stop": [\n      0]}}',
            '{\n  "é\\"": "}",\n  "hooks": {\n    "Stop": [\n      0,\n      1]}}',
        ),
    ],
)
def test_what_is_added_takes_the_style_around_it_and_goes_again(before: str, after: str) -> None:
    assert add_item(before, PATH, 1) == after
    count = len(json.loads(after)["hooks"]["Stop"])
    gone = remove(after, (*PATH, count - 1))
    assert json.loads(gone)["hooks"]["Stop"] == json.loads(after)["hooks"]["Stop"][:-1]


def test_removing_takes_the_right_comma() -> None:
    text = '{ "a": 1,\n "b": [ 1 , 2 , 3 ],\n "c": {} }'
    assert remove(text, ("a",)) == '{ "b": [ 1 , 2 , 3 ],\n "c": {} }'
    assert remove(text, ("b", 0)) == '{ "a": 1,\n "b": [ 2 , 3 ],\n "c": {} }'
    assert remove(text, ("b", 1)) == '{ "a": 1,\n "b": [ 1 , 3 ],\n "c": {} }'
    assert remove(text, ("c",)) == '{ "a": 1,\n "b": [ 1 , 2 , 3 ] }'
    for nowhere in (("x",), ("b", 9), ("a", "x"), ("x", 0)):
        assert remove(text, nowhere) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  // mine\n  "a": 1\n}', "line 2"),
        ('{\n  "a": 1,\n}', "line "),
        ('{"a": 1} x', "line 1"),
        ("", "line 1"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', '"c" twice'),
        ("[" * 100_000, "deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_the_line(text: str, said: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        parse(text)
    assert said in refused.value.message
    assert ("no comments" in refused.value.hint) == ("//" in text)


def test_lines_are_counted() -> None:
    text = '{\n  "a": [\n    1\n  ]\n}'
    node = parse(text).child("a")
    assert node is not None
    assert line_of(text, node) == 2


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(st.text(max_size=4), _JSON, max_size=4),
    st.sampled_from([None, 1, 2, 4, "\t"]),
    st.booleans(),
    _JSON,
)
def test_any_document_keeps_its_values_and_loses_what_was_added(
    document: Any, indent: Any, plain: bool, item: Any
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=plain)
    longer = add_item(text, ("h\n", "x"), item)
    assert json.loads(longer) == {**document, "h\n": {"x": [item]}}
    assert list(json.loads(longer))[:-1] == list(document)
    assert remove(longer, ("h\n",)) == (text if document else "{}")

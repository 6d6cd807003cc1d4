"""Any bytes as values: they become valid JSON, keep their meaning, and are cut when they are too long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.bin.bash_scripts import bash, emitted, records

LIMIT = 16_384
# A process for each example would be slow, so an example is a list of values for one.
BATCHES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NASTY = [b'"', b"\\", b"\n", b"\t", b"\r", b"\x1b[31m", b"\x01", b"\x1f", b"\x7f", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80",
         b"\xff", b"\xc3", b"\xa9", b"\x80", b"\xed\xa0\x80", b"&", b"$(id)", b"`id`", b"%s", b"*", b"'", b" ", b"\\u0041"]  # fmt: skip
SOME_BYTES = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(NASTY), max_size=30).map(b"".join),
    st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")),
).map(lambda value: value.replace(b"\0", b""))
MODE_AND_LOCALE = pytest.mark.parametrize(
    ("mode", "locale"),
    [("bash-5", "C.UTF-8"), ("bash-5", "C"), ("bash-3.2", "C.UTF-8"), ("bash-5", "readonly"), ("bash-3.2", "readonly")],
)


def through(call: str, values: list[bytes], mode: str = "bash-5", locale: str = "C.UTF-8") -> list[dict[str, Any]]:
    """What ``call``, with ``$value`` in it, emits for each of ``values``. The state directory is emptied first."""
    setting = "LC_ALL=C.UTF-8; readonly LC_ALL" if locale == "readonly" else f"LC_ALL={locale}"
    # Read in C: in UTF-8 bash's own `read` takes the end of a value for a part of a torn character.
    ran = bash(
        f'rm -rf "$CLAUDE_LOOP_HOME"; mapfile -t -d "" values; {setting}; source "$1"; '
        f'for value in "${{values[@]}}"; do {call}; done',
        stdin=b"".join(value + b"\0" for value in values),
        mode=mode,
        env={"LC_ALL": "C"},
    )
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    return records()


def lenient(value: bytes) -> str:
    return value.decode(errors="replace")


@MODE_AND_LOCALE
@given(values=st.lists(SOME_BYTES, min_size=1, max_size=40))
@BATCHES
def test_any_message_arrives(mode, locale, values):
    if locale == "readonly":
        values = values[:3]  # a process for each
    found = through('emit_error P S "$value"', values, mode, locale)
    assert [record["data"]["error"] for record in found] == [lenient(value) for value in values]


@MODE_AND_LOCALE
@given(values=st.lists(SOME_BYTES, min_size=1, max_size=40))
@BATCHES
def test_any_value_key_id_and_name_arrives(mode, locale, values):
    if locale == "readonly":
        values = values[:3]  # a process for each
    call = 'emit_event a.b run="$value" "v=$value" "k${value//=/}=x"; emit_test_run P S 0 1 "$value"'
    found = through(call, values, mode, locale)
    assert len(found) == 2 * len(values)
    for value, event, tests in zip(values, found[::2], found[1::2], strict=True):
        assert event.get("run_id", "") == lenient(value)
        assert tests["data"]["failures"] == [{"name": lenient(value)}]
        key = "k" + lenient(value.replace(b"=", b""))
        expected = {"v": lenient(value), key.removesuffix(":") if value.endswith(b":") else key: "x"}
        assert event["data"] == expected


def test_a_torn_character_before_a_backslash_keeps_its_place():
    """Where LC_ALL is readonly, bash's own `${s#*=}` swaps the two here."""
    for value in (b"\xc2\\\x80", b"a\xc2\\\x80=x"):
        (found,) = through('emit_event a.b run="$value" "v=$value" "k${value//=/}=x"', [value], locale="readonly")
        assert found["run_id"] == found["data"]["v"] == lenient(value)
        assert found["data"]["k" + lenient(value.replace(b"=", b""))] == "x"


def test_a_torn_character_before_a_quote_in_an_id_brings_no_other_bytes():
    """Where LC_ALL is readonly, bash's own `${s%?}` would read memory beside the value here."""
    found = through('emit_event a.b run="$value"; emit_error "$value" "$value" x', [b'\xc3"'], locale="readonly")
    ids = [
        record[key]
        for record, key in zip([found[0], found[1], found[1]], ["run_id", "prd_id", "story_id"], strict=True)
    ]
    assert ids == ['\ufffd"'] * 3


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False, min_value=-1e60, max_value=1e60),
        st.text(max_size=12),
        st.text(alphabet='"\\/{}[],:#!~%@;9 0tn€😀\n\x7f', max_size=12),
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
PIECES = st.sampled_from(
    [
        "",
        '"',
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "0",
        "1",
        "-",
        "+",
        ".",
        "e",
        "E",
        "true",
        "null",
        " ",
        "\n",
        "a",
        "\x01",
        "\\u",
        "\\ud800",
        "\\udc00",
        "#",
        "!",
        "~",
        "%",
        "@",
        ";",
        "'",
        "00",
        "e9",
        "1e999",
        "9" * 70,
        "[" * 300,
        "\xa0",
    ]  # fmt: skip
)


@st.composite
def nearly_json(draw: Callable[..., Any]) -> bytes:
    """JSON text as tools write it, half of the time with up to three places broken."""
    style = draw(st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]))
    text = json.dumps(draw(JSON), **style)
    for _ in range(draw(st.integers(0, 3)) if draw(st.booleans()) else 0):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(PIECES) + text[place + draw(st.integers(0, 1)) :]
    return text.encode(errors="replace").replace(b"\0", b"")


def is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize(("mode", "locale"), [("bash-5", "C.UTF-8"), ("bash-5", "C"), ("bash-3.2", "C.UTF-8")])
@given(values=st.lists(nearly_json(), min_size=1, max_size=60))
@settings(BATCHES, max_examples=25)
def test_raw_json_is_either_json_or_a_string(mode, locale, values):
    """`records` has parsed every line already: nothing that is no JSON may spoil its record."""
    found = through('emit_event a.b "v:=$value" after=ok', values, mode, locale)
    assert len(found) == len(values)
    for value, record in zip(values, found, strict=True):
        assert record["data"]["after"] == "ok"
        if record["data"]["v"] != value.decode():
            assert is_json(value)
            assert record["data"]["v"] == orjson.loads(value)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-0",
        "12",
        "-1.5e-3",
        "1E+10",
        "true",
        "false",
        "null",
        '""',
        '"a\\u00e9\\ud83d\\ude00\\"\\\\"',
        "[]",
        "{}",
        "[[],{}]",
        '{"a":{"b":[1,2,{"c":null}]},"d":"e"}',
        " [ 1 ,\n\t2 ] ",
        '{"a b" : "c:d,e]" }',
        "[" * 30 + "]" * 30,
    ],  # fmt: skip
)
def test_json_is_kept_as_json(text):
    (record,) = through('emit_event a.b "v:=$value"', [text.encode()])
    assert record["data"]["v"] == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nul",
        "True",
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e",
        "0x1",
        "NaN",
        "Infinity",
        "1 2",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{1:2}",
        "{'a':1}",
        '{"a"}',
        '{"a":1,}',
        '{"a":1}}',
        '{"a":1},{"b":2}',
        "[1],[2]",
        '"a',
        '"a"b"',
        '"\\x"',
        '"\\ud800"',
        '"\n"',
        '"\t"',
        "[1]]",
        "[[1]",
        '"a":1',
        "1,2",
        "--1",
        "1-2",
        "[tru]",
        "truefalse",
        "[1e5.5]",
        "[1.2.3]",
        "#",
        "{!}",
        '{"a":1 "b":2}',
        '{"a":1,2}',
        '{"a":[1},2]',
        "//",
        "[1]//",
    ],  # fmt: skip
)
def test_what_is_no_json_is_kept_as_a_string(text):
    (record,) = through('emit_event a.b "v:=$value"', [text.encode()])
    assert record["data"]["v"] == text


@pytest.mark.parametrize("mode", ["bash-5", "bash-3.2"])
@pytest.mark.parametrize("character", ["a", "é", "€", "😀", '"', "\\", "\n", "\x01", "\r"])
def test_a_long_value_is_cut_between_characters(mode, character):
    texts = ["x" * shift + character * 20_000 for shift in range(4)]
    found = through('emit_error P S "$value"', [text.encode() for text in texts], mode)
    for text, record in zip(texts, found, strict=True):
        kept, _, marker = record["data"]["error"].rpartition("…[")
        size = len(kept.encode())
        assert LIMIT - 3 <= size <= LIMIT
        assert text.startswith(kept)
        assert marker == f"{len(text.encode()) - size} bytes cut]"


def test_the_limit_itself_is_not_cut_and_one_byte_more_is():
    found = through('emit_error P S "$value"', [b"a" * LIMIT, b"a" * (LIMIT + 1), b"\x80" * (LIMIT + 9)])
    texts = [record["data"]["error"] for record in found]
    assert texts[0] == "a" * LIMIT
    assert texts[1] == "a" * LIMIT + "…[1 bytes cut]"
    assert texts[2].endswith("\ufffd…[9 bytes cut]")


def test_every_way_in_cuts():
    big = b"x" * 100_000
    cut = "x" * LIMIT + "…[83616 bytes cut]"
    call = 'emit_event a.b k="$value" "n:=$value"; emit_log_message P S "$value" m; emit_test_run P S 0 1 "$value"'
    event, log, tests = through(call, [big])
    assert event["data"] == {"k": cut, "n": cut}
    assert log["data"]["level"] == cut
    assert tests["data"]["failures"] == [{"name": cut}]


def test_a_record_stays_below_what_the_daemon_reads_as_a_line(home):
    script = r"""source "$1"; printf -v big '%*s' 20000 ''; big=${big// /$'\001'}
    set --; for i in {1..60}; do set -- "$@" "k$i=$big"; done; emit_event a.b "$@" """
    (record,) = emitted(script)
    (file,) = (home / "spool").iterdir()
    assert file.stat().st_size < 1_048_576
    kept = [len(value.split("…")[0]) for value in record["data"].values()]
    assert len(kept) == 60
    assert kept[:3] == [LIMIT] * 3
    assert kept[4:] == [256] * 56


def test_a_megabyte_costs_little_more_than_bash_itself_needs_for_the_call():
    script = r"""source "$1"; printf -v big '%*s' 1048576 ''; f() { :; }
    now() { at=${EPOCHREALTIME//[!0-9]/}; }
    emit_error P S warm
    for i in 1 2 3 4 5; do
      now; from=$at; f P S "$big"; now; bare=$((at - from))
      now; from=$at; emit_error P S "$big"; now; echo "$bare $((at - from))"
    done"""
    times = [tuple(map(int, line.split())) for line in bash(script).out.splitlines()]
    bare, ours = (min(column) for column in zip(*times, strict=True))
    # A bound for busy machines: escaping all of it instead of cutting first takes seconds. bench/emit_cost.py measures.
    assert ours < max(500_000, 20 * bare), f"{ours} us, the bare call {bare} us"


def test_escaping_is_not_quadratic():
    """16 KiB of quotes are the most that is ever escaped."""
    script = r"""source "$1"; printf -v quotes '%*s' 16384 ''; quotes=${quotes// /\"}
    emit_error P S warm; from=${EPOCHREALTIME//[!0-9]/}; emit_error P S "$quotes"; echo $((${EPOCHREALTIME//[!0-9]/} - from))"""
    started = time.monotonic()
    best = min(int(bash(script).out) for _ in range(3))
    assert best < 600_000  # quadratic, it takes seconds
    assert time.monotonic() - started < 30

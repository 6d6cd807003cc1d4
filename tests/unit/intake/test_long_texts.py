"""Very long texts are cut in the middle, and no cut leaves half a secret."""

from __future__ import annotations

from claude_loop.intake.long_texts import LONGEST, without_long_texts
from claude_loop.intake.redact import Redactor
from claude_loop.settings import RedactSettings


def test_what_is_short_is_left_as_it_is() -> None:
    payload = {"a": "x" * LONGEST, "b": [1, {"c": None}]}
    assert without_long_texts(payload) is payload


def test_begin_and_end_are_kept_between_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(100_000))
    cut = without_long_texts({"a": [{"b": text}]})
    begin, _, end = cut["a"][0]["b"].partition("…[")
    assert text.startswith(begin)
    assert begin.endswith("\n")
    end = end.partition("]…")[2]
    assert text.endswith(end)
    assert end.startswith("line ")
    assert len(cut["a"][0]["b"]) <= LONGEST + 60
    assert cut["truncated"] == {"a.0.b": len(text)}


def test_no_cut_goes_through_a_word() -> None:
    key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2
    cut = without_long_texts({"a": f"{key} " * 10_000})["a"]
    begin, _, rest = cut.partition("…[")
    assert set(begin.split()) == set(rest.partition("]…")[2].split()) == {key}


def test_what_is_left_of_a_private_key_goes_too() -> None:
    begin, end = "-----BEGIN RSA PRIVATE KEY-----\n", "-----END RSA PRIVATE KEY-----\n"
    body = "MIIEpAIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM\n"
    text = "x\n" * 20_000 + begin + body * 1_000 + end + "done\n"
    redactor = Redactor(RedactSettings())
    clean = redactor.data(without_long_texts({"a": text}))["a"]
    assert body.strip() not in clean
    assert clean.endswith("done\n")

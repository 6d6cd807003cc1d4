"""What is recovered of a payload that was cut or torn off."""

from __future__ import annotations

import json

import pytest

from claude_loop.formats.cut_payload import is_cut, recover

PAYLOAD = {
    "session_id": "s-1",
    "hook_event_name": "PostToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": 'say "hi" \\ é', "list": [1, {"a": None}, -2.5e3]},
    "tool_response": {"stdout": "line\n" * 20, "ok": True},
    "tool_use_id": "toolu_1",
    "duration_ms": 84,
}


@pytest.mark.parametrize("text", [json.dumps(PAYLOAD), json.dumps(PAYLOAD, ensure_ascii=False, indent=1)])
def test_wherever_it_is_cut_whole_fields_are_right_and_only_the_last_text_is_shorter(text: str) -> None:
    for at in range(len(text)):
        known = recover({"_cut": {"begin": text[:at], "end": ""}})
        assert known.pop("_cut") is True
        if known.keys() == {"text"}:
            assert at < 20
            continue
        keys = list(known)
        assert keys == list(PAYLOAD)[: len(keys)]
        for key in keys[:-1]:
            assert known[key] == PAYLOAD[key]
        if keys and isinstance(known[keys[-1]], str):
            assert PAYLOAD[keys[-1]].startswith(known[keys[-1]])


def test_the_end_tells_which_call_it_was() -> None:
    known = recover(
        {"_cut": {"begin": '{"session_id": "s", "tool_na', "end": 'ut"}, "tool_use_id": "t", "duration_ms":7}'}}
    )
    assert known == {"session_id": "s", "tool_use_id": "t", "duration_ms": 7, "_cut": True}
    inside = r'"stdout": "{\"tool_use_id\": \"fake\"}"'
    assert "tool_use_id" not in recover({"_cut": {"begin": '{"a": 1', "end": inside}})


def test_what_is_no_json_is_kept_as_text() -> None:
    assert recover({"_cut": {"begin": "\ufffd\ufffd{][", "end": ""}}) == {"text": "\ufffd\ufffd{][", "_cut": True}
    assert recover({"_cut": {"begin": 7}}) == {"text": "", "_cut": True}
    assert recover({"_cut": {"begin": "[" * 100_000, "end": ""}}) == {"text": "[" * 100_000, "_cut": True}
    assert is_cut({"_cut": {"begin": "x"}})
    assert not is_cut({"_cut": True, "a": 1})


def test_half_a_character_at_the_cut_is_none() -> None:
    begin = '{"tool_name": "Bash", "tool_response": "so \\ud83d'
    assert recover({"_cut": {"begin": begin, "end": ""}}) == {
        "tool_name": "Bash", "tool_response": "so \ufffd", "_cut": True,
    }  # fmt: skip


def test_integers_that_are_too_large_are_their_digits() -> None:
    begin = f'{{"a": {2**64 - 1}, "b": {2**64}, "c": {-(2**63) - 1}, "d": {"9" * 5000}, "e": "'
    known = recover({"_cut": {"begin": begin, "end": ""}})
    assert known == {
        "a": 2**64 - 1, "b": str(2**64), "c": str(-(2**63) - 1), "d": "9" * 5000, "e": "", "_cut": True,
    }  # fmt: skip

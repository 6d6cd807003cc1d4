import inspect

import pytest

from claude_loop import errors

DELIBERATE = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, errors.ClaudeLoopError) and found is not errors.ClaudeLoopError
]


@pytest.mark.parametrize("error", DELIBERATE)
def test_every_error_says_what_to_do_next(error: type[errors.ClaudeLoopError]) -> None:
    told = error("It did not work.").as_dict()
    assert told["hint"].endswith(".")
    assert told["code"]
    assert 400 <= error.status < 600


def test_texts_are_bounded_and_harmless() -> None:
    told = errors.InvalidEvent("a\x1b[31m" + "x" * 1000, field="data.\x00").as_dict()
    assert "\x1b" not in told["message"]
    assert len(told["message"]) == errors.LONGEST_TEXT
    assert told["field"] == "data.\\x00"

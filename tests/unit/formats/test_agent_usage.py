"""What agents used, read from their JSON output."""

from __future__ import annotations

import json

import pytest

from claude_loop.formats.agent_usage import Thread, Usage, usage_of

RESULT = {
    "type": "result", "subtype": "success", "is_error": False, "session_id": "5b1f6a2e-0c1d", "num_turns": 3, "result": "Done",
    "total_cost_usd": 0.0731,
    "usage": {"input_tokens": 12, "cache_creation_input_tokens": 640, "cache_read_input_tokens": 54000, "output_tokens": 900},
    "modelUsage": {
        "claude-haiku-4-5": {"inputTokens": 100, "outputTokens": 10, "costUSD": 0.0001},
        "claude-sonnet-5": {
            "inputTokens": 12, "outputTokens": 900, "cacheReadInputTokens": 54000, "cacheCreationInputTokens": 640, "costUSD": 0.073,
        },
    },
}  # fmt: skip
FOUND = Usage("5b1f6a2e-0c1d", 0.0731, 54_752, 910, "claude-sonnet-5")


def told(**changes):
    return usage_of(json.dumps({**RESULT, **changes}))


def test_a_result_of_claude_with_its_subagents_and_its_cache():
    assert told() == FOUND
    assert told(subtype="error_max_turns", is_error=True, result=None) == FOUND


def test_an_array_ends_in_the_result():
    assert usage_of(json.dumps([{"type": "system", "subtype": "init"}, RESULT])) == FOUND


def test_a_version_that_tells_of_the_main_loop_only():
    assert told(modelUsage=None) == Usage("5b1f6a2e-0c1d", 0.0731, 54_652, 900, None)
    assert told(modelUsage={}, usage=None) == Usage("5b1f6a2e-0c1d", 0.0731, None, None, None)


def test_turns_of_codex_have_tokens_and_no_cost():
    assert usage_of('{"type":"thread.started","thread_id":"0199a213"}') == Thread("0199a213")
    turn = {
        "type": "turn.completed",
        "usage": {"input_tokens": 24763, "cached_input_tokens": 24448, "output_tokens": 122},
    }
    assert usage_of(json.dumps(turn)) == Usage(None, None, 24763, 122, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"total_cost_usd": "0.07"}, {"total_cost_usd": True}, {"total_cost_usd": -1}, {"total_cost_usd": float("inf")},
        {"total_cost_usd": float("nan")}, {"total_cost_usd": 1e300},
    ],
    ids=str,
)  # fmt: skip
def test_an_amount_that_is_none_is_not_known(changes):
    assert told(**changes, usage=None, modelUsage=[]) is None


def test_a_session_that_is_no_id_is_none():
    assert told(session_id="x y").session_id is None
    assert told(session_id=None).session_id is None


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"result"', '{"type":"result"}', "{}", "[{}]", '[{"type":1}]', "[{" * 5000, '{"type":["result"],"total_cost_usd":1}',
        '{"type":"assistant","total_cost_usd":1}', 'cost: {"type":"result","total_cost_usd":1}', '{"type":"thread.started"}',
        '{"type":"turn.completed"}', '{"type":"turn.completed","usage":7}', '{"type":"turn.completed","usage":{"input_tokens":-1}}',
        json.dumps({**RESULT, "result": "x" * 70_000}),
    ],
)  # fmt: skip
def test_anything_else_tells_nothing(line):
    assert usage_of(line) is None


def test_half_a_character_is_none():
    assert told(modelUsage={"so \ud83d": {"inputTokens": 1}}).model == "so \ufffd"

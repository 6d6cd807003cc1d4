"""Agents' hooks as events: every fixture, every field, and payloads that nobody documented."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.catalogue import CATALOGUE
from claude_loop.formats import claude_hooks, codex_hooks
from claude_loop.formats.agent_hooks import drafts, is_hook, session_of
from claude_loop.formats.hook_fields import SUMMARY_CHARACTERS, TEXT_CHARACTERS, Draft, summary
from claude_loop.hook_settings import EVENTS
from tests.support import ROOT


def rows(agent: str) -> list[tuple[str, list[str], dict[str, Any]]]:
    lines = (ROOT / "tests" / "fixtures" / "agents" / f"{agent}_hooks.jsonl").read_text().splitlines()
    return [(agent, row["events"], row["payload"]) for row in map(json.loads, lines)]


AT_MS = 1_795_150_000_000
ROWS = rows("claude") + rows("codex")


def read(payload: dict[str, Any], agent: str = "claude") -> list[Draft]:
    return drafts(f"hook.{agent}", payload, AT_MS)


@pytest.mark.parametrize(("agent", "events", "payload"), ROWS)
def test_each_hook_becomes_its_events(agent: str, events: list[str], payload: dict[str, Any]) -> None:
    found = read(payload, agent)
    assert [draft.type for draft in found] == events
    assert found[0].part == ""
    assert found[0].data["raw"] == payload
    assert all(draft.part and "raw" not in draft.data for draft in found[1:])
    assert len({draft.part for draft in found}) == len(found)
    for draft in found:
        assert draft.data["hook"] == payload.get("hook_event_name", payload.get("type"))
        CATALOGUE[draft.type].complete(draft.data, "US-001" if CATALOGUE[draft.type].story == "required" else None)


def test_every_hook_that_is_read_is_in_a_fixture_and_every_one_that_is_asked_for_is_read() -> None:
    for agent, hooks in (("claude", claude_hooks.HOOKS), ("codex", codex_hooks.HOOKS)):
        shown = {payload.get("hook_event_name", payload.get("type")) for _, _, payload in rows(agent)}
        assert set(hooks) <= shown
        assert set(EVENTS[agent]) <= set(hooks)


def test_what_the_events_hold() -> None:
    found = {
        payload["hook_event_name"] + str(payload.get("error", "")): read(payload) for _, _, payload in rows("claude")
    }
    data = {
        name: {k: v for k, v in drafts_[0].data.items() if k not in ("raw", "hook")} for name, drafts_ in found.items()
    }
    assert data["SessionStart"] == {
        "agent": "claude",
        "model": "claude-sonnet-5",
        "cwd": "/home/u/shop",
        "reason": "startup",
        "title": "Cart totals",
    }
    assert data["PermissionRequest"] == {
        "for": "human",
        "reason": "permission Bash rm -rf build",
        "kind": "permission",
        "tool": "Bash",
        "command": "rm -rf build",
    }
    assert data["PreToolUse"] == {
        "tool": "Grep",
        "call_id": "toolu_02A",
        "summary": "grep TODO in src",
        "agent_id": "a7f3",
    }
    assert data["PermissionDenied"]["error"] == "Permission denied: not in auto mode"
    assert data["StopFailurerate_limit"] == {
        "for": "rate_limit",
        "reason": "Usage limit reached|1795168814",
        "kind": "rate_limit",
        "until": "2026-11-20T10:00:14.000Z",
    }
    assert data["StopFailureoverloaded"]["attempt"] == 2
    assert data["StopFailureoverloaded"]["max_attempts"] == 10
    assert data["StopFailureauthentication_failed"]["for"] == "human"
    assert data["SubagentStop"]["message"] == "Three places."


@pytest.mark.parametrize(
    ("tool", "given", "shown"),
    [
        ("Bash", {"command": "pytest -q\n  tests"}, "pytest -q tests"),
        ("Edit", {"file_path": "/w/src/cart.py", "old_string": "x"}, "src/cart.py"),
        ("Write", {"file_path": "/elsewhere/a"}, "/elsewhere/a"),
        ("Grep", {"pattern": "TODO"}, "grep TODO"),
        ("Agent", {"prompt": "long", "description": "Find the bug"}, "Find the bug"),
        ("WebFetch", {"url": "https://example.org", "prompt": "read"}, "https://example.org"),
        ("AskUserQuestion", {"questions": [{"question": "Which?"}]}, "Which?"),
        ("TodoWrite", {"todos": [{}, {}]}, "2 entries"),
        ("mcp__tickets__get", {"id": 7, "name": "T-7"}, "T-7"),
        ("Bash", {"command": ["bash", "-lc", "make test"]}, "make test"),
        ("Bash", {"command": ["make", "test"]}, "make test"),
        ("apply_patch", {"command": "*** Add File: /w/a.py\n*** Update File: b.py\n"}, "a.py, b.py"),
        ("Odd", {}, ""),
        ("Odd", ["not", "an", "object"], ""),
        ("Bash", {"command": "x" * 500}, "x" * (SUMMARY_CHARACTERS - 1) + "…"),
    ],
)
def test_a_call_in_one_line(tool: str, given: Any, shown: str) -> None:
    assert summary({"tool_name": tool, "tool_input": given, "cwd": "/w"}) == shown


def test_questions_wait_for_an_answer_not_for_a_permission() -> None:
    (waiting,) = read(
        {
            "hook_event_name": "PermissionRequest",
            "tool_name": "AskUserQuestion",
            "tool_input": {"questions": [{"question": "Which?"}]},
        }
    )
    assert (waiting.data["kind"], waiting.data["reason"]) == ("input", "question Which?")


def test_long_texts_are_lifted_in_part_and_kept_whole_in_the_payload() -> None:
    (prompt,) = read({"hook_event_name": "UserPromptSubmit", "prompt": "p" * 20_000})
    assert len(prompt.data["prompt"]) < TEXT_CHARACTERS + 50
    assert prompt.data["prompt"].endswith("characters cut]")
    assert len(prompt.data["raw"]["prompt"]) == 20_000


def test_what_is_not_known_is_harmless() -> None:
    for agent, payload in (("claude", {}), ("claude", {"hook_event_name": 7}), ("gemini", {"hook_event_name": "Stop"})):
        (only,) = read(payload, agent)
        assert (only.type, only.data["raw"]) == ("agent.hook", payload)
    assert is_hook("hook.claude")
    assert not is_hook("hooks.claude")
    assert not is_hook(["hook.claude"])
    assert session_of({"thread-id": "t"}) == "t"
    assert session_of({"session_id": ["x"]}) is None


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["completed", "rate_limit", "Bash"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = sorted({key for _, _, payload in ROWS for key in payload} - {"hook_event_name"})


@given(st.sampled_from(ROWS), st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_no_shape_of_a_field_breaks_anything(row: tuple[str, list[str], dict[str, Any]], odd: dict[str, Any]) -> None:
    agent, _, payload = row
    for draft in read({**payload, **odd}, agent):
        known = CATALOGUE[draft.type]
        known.complete(draft.data, "US-001" if known.story == "required" else None)


def test_when_a_limit_ends_counts_from_the_hooks_own_time() -> None:
    failure = {"hook_event_name": "StopFailure", "error": "rate_limit"}
    said = {details: read({**failure, "error_details": details})[0].data.get("until") for details in LIMITS}
    assert said == LIMITS


LIMITS = {
    "You've hit your limit, resets in 2h": "2026-11-20T06:46:40.000Z",
    "You've hit your limit · resets 3pm (UTC)": "2026-11-20T15:00:00.000Z",
    "slow down": None,
}

"""Commits, test runs and lists of tasks inside tools' calls."""

from __future__ import annotations

from typing import Any

import pytest

from claude_loop.formats import tool_facts
from claude_loop.formats.hook_fields import Draft
from claude_loop.formats.test_summaries import summarize
from claude_loop.formats.tool_facts import LOOKED_THROUGH, MOST_COMMITS, found, progress


def bash(command: str, response: Any = None, **more: Any) -> list[Draft]:
    return found({"tool_name": "Bash", "tool_input": {"command": command}, "tool_response": response, **more})


@pytest.mark.parametrize(
    ("output", "commit"),
    [
        (
            "[main 1a2b3c4] Cart totals\n 1 file changed, 2 insertions(+)\n",
            {"commit_hash": "1a2b3c4", "subject": "Cart totals", "branch": "main", "insertions": 2, "deletions": 0},
        ),
        ("[main (root-commit) 1a2b3c4] First\n", {"commit_hash": "1a2b3c4", "subject": "First", "branch": "main"}),
        ("[detached HEAD 1a2b3c4] US-7: x\n", {"commit_hash": "1a2b3c4", "subject": "US-7: x", "mentions": ["US-7"]}),
        ("hook says hi\n[a/b 1a2b3c4] x\n", {"commit_hash": "1a2b3c4", "subject": "x", "branch": "a/b"}),
    ],
)
def test_what_git_commit_says(output: str, commit: dict[str, Any]) -> None:
    for response in ({"stdout": output}, output):
        (fact,) = bash("git add . && git commit -m x", response)
        assert (fact.type, fact.part, fact.data) == ("commit.created", "commit", commit)


def test_the_agents_own_word_for_a_commit() -> None:
    told = {"stdout": "", "gitOperation": {"commit": {"sha": "1a2b3c4d", "kind": "committed", "branch": "x"}}}
    (fact,) = bash('git commit -qam "US-002: more"', told)
    assert fact.data == {"commit_hash": "1a2b3c4d", "subject": "US-002: more", "branch": "x", "mentions": ["US-002"]}
    (fact,) = bash("git commit -m x", {**told, "stdout": "[x 1a2b3c4] Once\n"})
    assert fact.data["subject"] == "Once"
    assert bash("git commit", {"gitOperation": {"commit": {"sha": "not a hash"}}}) == []


def test_several_commits_of_one_command_have_ids_of_their_own() -> None:
    output = "".join(f"[main {number:07x}] n{number}\n" for number in range(30))
    facts = bash("for i in 1 2 3; do git commit -m x; done", output)
    assert len(facts) == MOST_COMMITS
    assert [fact.part for fact in facts[:3]] == ["commit", "commit2", "commit3"]
    assert facts[-1].data["subject"] == "n29"


@pytest.mark.parametrize(
    "command", ["cat notes.txt", "git log --oneline", "echo '[main 1a2b3c4] x'", "git status", "make committed"]
)
def test_what_only_looks_like_a_commit_is_none(command: str) -> None:
    assert bash(command, {"stdout": "[main 1a2b3c4] Cart totals\n"}) == []


def test_test_runs_are_found_in_output_and_in_the_error_of_a_failed_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str | None]] = []

    def watched(text: str, command: str | None) -> dict[str, Any] | None:
        seen.append((text, command))
        return summarize(text, command)

    monkeypatch.setattr(tool_facts, "summarize", watched)
    call = {"tool_name": "Bash", "tool_input": {"command": "pytest -q"}}
    (fact,) = found({**call, "tool_response": {"stdout": "1 failed, 1 passed", "stderr": "warn"}})
    assert (fact.type, fact.part) == ("test.run", "test")
    counts = {key: fact.data[key] for key in ("command", "passed", "failed", "runner", "total")}
    assert counts == {"command": "pytest -q", "passed": 1, "failed": 1, "runner": "pytest", "total": 2}
    assert seen == [("1 failed, 1 passed\nwarn", "pytest -q")]
    assert len(found({**call, "error": "Exit code 1\n1 passed"})) == 1
    assert found({**call, "tool_response": {"stdout": ""}}) == []
    assert found({"tool_name": "Read", "tool_input": {"file_path": "log"}, "tool_response": "1 passed"}) == []
    found({**call, "tool_response": "x" * 10 * LOOKED_THROUGH})
    assert len(seen[-1][0]) == LOOKED_THROUGH


def test_lists_of_tasks() -> None:
    assert progress([{"text": "a", "completed": True}, {"text": "b", "completed": False}]) == {"current": 1, "total": 2}
    plan = {"plan": [{"step": "Test", "status": "completed"}, {"step": "Code", "status": "in_progress"}]}
    (fact,) = found({"tool_name": "update_plan", "tool_input": plan})
    assert fact == Draft("progress.updated", {"current": 1, "total": 2, "message": "Code"}, "todo")
    listed = {"tasks": [{"id": "1", "subject": "a", "status": "completed"}]}
    assert found({"tool_name": "TaskList", "tool_input": {}, "tool_response": listed})[0].data["current"] == 1
    for odd in ({"todos": "x"}, {"todos": []}, {"todos": [1, None]}, {"items": [{"price": 3}]}):
        assert found({"tool_name": "TodoWrite", "tool_input": odd}) == []

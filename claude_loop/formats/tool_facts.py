"""Facts inside a tool's call that scripts report too: commits, test runs, and how far a list of tasks has come."""

from __future__ import annotations

import re
from typing import Any

from claude_loop.formats.git_log import Commit, parse_answers
from claude_loop.formats.hook_fields import Draft, Payload, command, mapping, one_line, present, rows, text
from claude_loop.formats.test_summaries import summarize

MOST_COMMITS = 20
# Of a longer output the end is looked through: that is where runners and git say what came of it.
LOOKED_THROUGH = 262_144
_SAYS_COMMIT = re.compile(r"\bgit\b[^\n]{0,200}\b(?:commit|merge|cherry-pick|revert|rebase|am)\b")
_HEX = re.compile(r"[0-9A-Fa-f]{4,64}\Z")
_MESSAGE = re.compile(r"""(?:\s-[a-z]*m|\s--message)[ =]?(['"])(?P<text>[^'"\n]{1,500})""")


def found(payload: Payload) -> list[Draft]:
    """The facts in a call that has ended."""
    given = mapping(payload, "tool_input")
    line, output = command(given), _output(payload)
    facts = _progress(payload, given)
    if line is not None:
        facts += _commits(payload, line, output)
        if output and (run := summarize(output, line)) is not None:
            facts.append(Draft("test.run", _completed({"command": one_line(line), **run}), "test"))
    return facts


def _output(payload: Payload) -> str:
    """What a command wrote. Of one that failed it stands in the error."""
    response = payload.get("tool_response")
    if isinstance(response, str):
        return response[-LOOKED_THROUGH:]
    parts = [
        text(mapping(payload, "tool_response"), *keys)
        for keys in (("stdout", "output", "aggregated_output"), ("stderr",))
    ]
    parts.append(text(payload, "error"))
    return "\n".join(part[-LOOKED_THROUGH:] for part in parts if part)


def _completed(run: dict[str, Any]) -> dict[str, Any]:
    counts = [run.get(key) or 0 for key in ("passed", "failed", "skipped")]
    return run if "total" in run else {**run, "total": sum(counts)}


# -- commits -----------------------------------------------------------------------------------------------------


def _commits(payload: Payload, line: str, output: str) -> list[Draft]:
    told = mapping(mapping(mapping(payload, "tool_response"), "gitOperation"), "commit")
    announced = parse_answers(output) if told or _SAYS_COMMIT.search(line) else []
    sha = text(told, "sha")
    if sha is not None and _HEX.match(sha) and not any(_same(sha, commit.commit_hash) for commit in announced):
        said = _MESSAGE.search(line)
        announced.append(Commit(sha, said["text"] if said else "", text(told, "branch")))
    return [
        Draft("commit.created", commit.data(), "commit" if number == 0 else f"commit{number + 1}")
        for number, commit in enumerate(announced[-MOST_COMMITS:])
    ]


def _same(one: str, other: str) -> bool:
    return one.lower().startswith(other.lower()) or other.lower().startswith(one.lower())


# -- lists of tasks ------------------------------------------------------------------------------------------------


def _progress(payload: Payload, given: Payload) -> list[Draft]:
    response = mapping(payload, "tool_response")
    entries = rows(given, "todos") or rows(given, "plan") or rows(given, "items") or rows(response, "tasks")
    if not entries or not any("status" in entry or "completed" in entry for entry in entries):
        return []
    return [Draft("progress.updated", progress(entries), "todo")]


def progress(entries: list[Payload]) -> dict[str, Any]:
    """How far a list of tasks has come, whichever agent's: Claude's todos, Codex's plan."""
    done = sum(entry.get("status") == "completed" or entry.get("completed") is True for entry in entries)
    now = next((entry for entry in entries if entry.get("status") == "in_progress"), None)
    words = text(now, "activeForm", "content", "step", "subject", "text") if now else None
    return present(current=done, total=len(entries), message=one_line(words) if words else None)

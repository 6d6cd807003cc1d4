"""docs/agents.md names every hook that is read, with the events it becomes."""

from __future__ import annotations

import json
import re

import pytest

from claude_loop.agents import AGENTS
from claude_loop.catalogue import CATALOGUE
from claude_loop.formats.agent_hooks import READERS
from tests.support import ROOT

PAGE = (ROOT / "docs" / "agents.md").read_text()


def table(heading: str) -> dict[str, set[str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[1].strip().strip("`"): set(re.findall(r"`([a-z_.]+)`", row[2])) for row in rows}


def test_what_every_agent_says_is_read() -> None:
    assert set(READERS) == set(AGENTS)
    for name, agent in AGENTS.items():
        assert set(agent.hooks) <= set(READERS[name]), name


@pytest.mark.parametrize(("heading", "agent", "hooks"), [(AGENTS[n].title, n, READERS.get(n, {})) for n in AGENTS])
def test_every_hook_is_in_the_table_with_its_events(heading: str, agent: str, hooks: dict) -> None:
    described = table(heading)
    assert set(described) == set(hooks)
    made: dict[str, set[str]] = {}
    for line in (ROOT / "tests" / "fixtures" / "agents" / f"{agent}_hooks.jsonl").read_text().splitlines():
        row = json.loads(line)
        name = row["payload"].get("hook_event_name", row["payload"].get("type"))
        facts = {"commit.created", "progress.updated", "test.run"}
        made.setdefault(name, set()).update(set(row["events"]) - facts)
    for name, events in described.items():
        if events:  # StopFailure is told below the table
            assert events == made[name], name
    assert set().union(*described.values()) <= set(CATALOGUE)

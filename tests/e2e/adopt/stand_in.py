"""A stand-in for Claude Code under `claude --print`, and for Codex under `codex exec`: the documented hooks from the
settings, real tests, real commits.

It is put on the PATH as `claude` or `codex`, told which as its first argument, and does one story of `prd.json` in each
call. ``STAND_IN`` says what goes wrong in the first call: nothing, `failing`, `permission`, `rate_limit`, `retry`. Files
named `hold-…` in ``STAND_IN_FOLDER`` appear where it waits for the test, until the test removes them. It knows nothing
of claude-loop.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from agents import Agent, Claude, Codex, hold

HERE = Path.cwd()
FOLDER = Path(os.environ["STAND_IN_FOLDER"])
# Composed here, of the looks of a real one.
SECRET = "sk-ant-api03-" + "aB3dE6gH" * 11
# What a model takes before its first call, and much less than it really takes.
THINKING = 1.2
MODULE = "def {name}(amounts):\n    return sum(amounts){bug}\n"
TEST = """import unittest

from {name} import {name}


class {title}(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual({name}([]), 0)

    def test_two(self):
        self.assertEqual({name}([1, 2]), 3)
"""


def steps(done: int) -> list[tuple[str, str]]:
    names = ("Write the tests", "Make them pass", "Commit")
    return list(zip(names, ["completed"] * done + ["in_progress"] + ["pending"] * (2 - done), strict=True))


def next_story(prd: dict[str, Any]) -> dict[str, Any]:
    return min((story for story in prd["userStories"] if not story["passes"]), key=lambda story: story["priority"])


def pass_story(agent: Agent, story: dict[str, Any]) -> int:
    """Mark it in the file, in place; how many are left."""
    file = HERE / "prd.json"
    prd = json.loads(file.read_text())
    for each in prd["userStories"]:
        each["passes"] = each["passes"] or each["id"] == story["id"]
    file.write_text(json.dumps(prd, indent=2) + "\n")
    agent.edit("prd.json", '"passes": false', '"passes": true')
    return sum(not each["passes"] for each in prd["userStories"])


def limited(agent: Agent) -> None:
    """The usage limit is reached: the turn fails, the message is printed, the process ends with an error."""
    words = f"Claude AI usage limit reached|{os.environ['STAND_IN_RESET']}"
    agent.say("StopFailure", error="rate_limit", error_details=words, last_assistant_message=words)
    agent.say("SessionEnd", reason="other")
    print(words, flush=True)
    hold("rate_limit")
    raise SystemExit(1)


def overloaded(agent: Agent) -> None:
    details = "529 overloaded_error. Retrying in 4 seconds (attempt 2 of 10)"
    agent.say("StopFailure", error="overloaded", error_details=details)
    hold("retry")


def work(agent: Agent, trouble: str) -> None:
    time.sleep(THINKING)
    file = HERE / "prd.json"
    agent.read("prd.json")
    story = next_story(json.loads(file.read_text()))
    name = story["id"].lower().replace("-", "_")
    if trouble == "rate_limit":
        limited(agent)
    if trouble == "retry":
        overloaded(agent)
    agent.plan(steps(0))
    agent.write(f"{name}.py", MODULE.format(name=name, bug=" + 1" if trouble == "failing" else ""))
    agent.write(f"test_{name}.py", TEST.format(name=name, title=f"Tests{name.title().replace('_', '')}"))
    if trouble == "permission":
        agent.bash("rm -rf build", asks=True)
    agent.plan(steps(1))
    if os.environ.get("STAND_IN_HOLDS"):
        hold("ready")
    tests = agent.bash(f"export API_KEY={SECRET}; python3 -m unittest 2>&1")
    if os.environ.get("STAND_IN_HOLD_AT") == story["id"]:
        hold("tested")
    summary = tests[tests.index("Ran ") :].strip()
    if trouble == "failing":
        agent.end(f"The tests of {story['id']} fail, I will go on in the next iteration.\n\n```\n{summary}\n```")
    agent.plan(steps(2))
    agent.bash(f"git add -A && git commit -m 'feat: [{story['id']}] - {story['title']}'")
    left = pass_story(agent, story)
    words = f"Implemented {story['id']} with key {SECRET}.\n\n```\n{summary}\n```\n"
    agent.end(f"{words}\n<promise>COMPLETE</promise>" if left == 0 else f"{words}\n{left} stories are left.")


def main() -> None:
    prompt = sys.stdin.read()
    calls = FOLDER / "calls"
    first = not calls.exists()
    calls.touch()
    agent = {"claude": Claude, "codex": Codex}[sys.argv[1]](sys.argv[2:])
    agent.start(f"{prompt}\nThe key is {SECRET}.")
    work(agent, os.environ.get("STAND_IN", "") if first else "")


main()

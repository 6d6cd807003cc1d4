"""Lines of agents' hooks in the spool: redacted, shortened, never refused, and each of their events stored once."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.clock import ManualClock
from claude_loop.errors import InvalidJson
from claude_loop.eventlog.base import Appended, Chain, SpoolOffset
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.events import Event
from claude_loop.id_rules import MAX_ID_LENGTH
from claude_loop.intake import spool_batch, spool_merge
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.agent_lines import part_id
from claude_loop.intake.inotify import Changes
from claude_loop.intake.rejected_lines import RejectedLines
from claude_loop.intake.shorten import depth_exceeds, json_size
from claude_loop.intake.spool_drain import SpoolDrain
from claude_loop.intake.spool_files import SpoolFiles
from claude_loop.intake.spool_table import SpoolTable
from claude_loop.paths import Home
from claude_loop.settings import LimitSettings, RedactSettings

CLOCK = ManualClock()
CLOCK.advance(60)
LIMITS = LimitSettings()
ACCEPTOR = Acceptor(LIMITS, RedactSettings(), CLOCK)
COMMIT = {
    "session_id": "s-1",
    "hook_event_name": "PostToolUse",
    "tool_name": "Bash",
    "tool_input": {"command": "pytest -q && git commit -m x"},
    "tool_response": {"stdout": "3 passed in 0.1s\n[main 1a2b3c4] US-001: x\n"},
    "tool_use_id": "toolu_1",
}
# Composed here, of the looks of the real ones.
SECRETS = [
    "sk-ant-api03-" + "aB3dE6gH" * 11,
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2,
    "AKIA" + "ABCDEFGHIJ234567",
    "xoxb-" + "123456789012-abcdefGHIJKL",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "npm_" + "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8",
    "hunter2hunter2",
]


def line(payload: Any, **envelope: Any) -> bytes:
    body = {"id": "1769428800000001-7-8.1", "type": "hook.claude", "project": "shop", "source": "claude", **envelope}
    return json.dumps({**body, "data": payload}).encode()


def events(raw: bytes, acceptor: Acceptor = ACCEPTOR) -> list[Event]:
    found, _ = acceptor.salvage_line(raw, derived_id="derived", source="spool")
    assert isinstance(found, list)
    return found


def test_a_line_becomes_the_agents_event_and_the_facts_in_it() -> None:
    main, commit, test = events(line(COMMIT, prd_id="P", story_id="US-001", run_id="r", timestamp=1_769_428_800.5))
    assert [e.type for e in (main, commit, test)] == ["tool.completed", "commit.created", "test.run"]
    stem = "1769428800000001-7-8.1"
    assert [e.id for e in (main, commit, test)] == [stem, f"{stem}+commit", f"{stem}+test"]
    for event in (main, commit, test):
        assert (event.project, event.prd_id, event.story_id, event.run_id) == ("shop", "P", "US-001", "r")
        assert (event.session_id, event.source, event.at) == ("s-1", "claude", 1_769_428_800_500)
        assert event.data["hook"] == "PostToolUse"
    assert main.data["raw"] == COMMIT
    assert commit.data["story_id"] == test.data["story_id"] == "US-001"
    assert (test.data["total"], test.data["call_id"]) == (3, "toolu_1")
    assert "story_id" not in main.data


def test_without_a_story_facts_have_none() -> None:
    main, commit, test = events(line(COMMIT))
    assert (main.story_id, commit.story_id, test.story_id) == (None, None, None)
    assert "story_id" not in commit.data


def test_the_session_is_the_payloads_and_else_the_loops() -> None:
    assert events(line(COMMIT, session_id="outer"))[0].session_id == "s-1"
    assert events(line({}, session_id="outer"))[0].session_id == "outer"
    assert events(line({"session_id": "x" * 999}, session_id="outer"))[0].session_id == "outer"


def test_other_lines_are_what_they_were() -> None:
    for raw in (b'{"type":"a.b","data":{"type":"hook.claude"}}', b'{"type":"a.b"}'):
        found, _ = ACCEPTOR.salvage_line(raw, derived_id="d", source="spool")
        assert isinstance(found, Event)
        assert found.type == "a.b"


@pytest.mark.parametrize("payload", [None, [], "text", 7, {}, {"hook_event_name": None}, {"_cut": {"begin": "\x00"}}])
def test_whatever_the_payload_is_it_is_kept(payload: Any) -> None:
    (event,) = events(line(payload))
    assert event.type == "agent.hook"
    assert isinstance(event.data["raw"], dict)
    if payload is not None and not isinstance(payload, dict):
        assert event.data["_extra"]["data"] == payload
        assert event.data["_invalid"]


def test_careless_json_and_wide_integers_are_kept_and_what_is_none_is_rejected() -> None:
    raw = (
        b'{"type":"hook.claude","data":{"hook_event_name":"Stop","last_assistant_message":"a\tb \xff","n":%d}}' % 10**30
    )
    main, idle = events(raw)
    assert (main.id, idle.id, idle.type) == ("derived", "derived+idle", "agent.idle")
    assert main.data["message"] == "a\tb \ufffd"
    assert main.data["raw"]["n"] == str(10**30)
    for broken in (
        b'{"type":"hook.claude","data":{"a":',
        b'["hook.claude"]',
        b'"hook."',
        b'{"type":"hook.x","data":' + b"[" * 9999,
    ):
        with pytest.raises(InvalidJson):
            ACCEPTOR.salvage_line(broken, derived_id="d", source="spool")


def test_wide_integers_of_a_payload_are_plain_text() -> None:
    raw = (
        b'{"type":"hook.claude","data":{"hook_event_name":"SessionStart","session_id":"s","cwd":18446744073709551616}}'
    )
    (event,) = events(raw)
    assert type(event.data["raw"]["cwd"]) is str


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_nowhere(secret: str) -> None:
    for payload in (
        {
            "hook_event_name": "UserPromptSubmit",
            "prompt": f"Use the key {secret}, password: {secret}".replace("Use the key hunter2hunter2, ", ""),
        },
        {
            "hook_event_name": "PreToolUse",
            "tool_name": "Bash",
            "tool_input": {"command": f"export API_KEY={secret}; PASSWORD={secret} x"},
        },
        {
            "hook_event_name": "PostToolUse",
            "tool_name": "Read",
            "tool_response": {"password": secret, "api_key": f"{secret}1"},
        },
        {"hook_event_name": "PostToolUse", "tool_name": "mcp__x__y", "tool_input": {"password": {"nested": [secret]}}},
    ):
        found = events(line(payload))
        assert all(secret not in event.json for event in found), payload
        assert "redacted" in found[0].json


def test_a_long_payload_is_shortened_and_says_so_and_its_end_is_still_looked_through() -> None:
    stdout = "line of output\n" * 60_000 + "3 passed in 0.1s\n"
    main, test = events(line({**COMMIT, "tool_input": {"command": "pytest"}, "tool_response": {"stdout": stdout}}))
    assert test.type == "test.run"
    assert json_size(main.data) <= LIMITS.data_bytes
    assert main.data["raw"]["truncated"] == {"tool_response.stdout": len(stdout)}
    assert (main.data["tool"], main.data["call_id"]) == ("Bash", "toolu_1")
    keys = events(line({**COMMIT, "tool_response": {f"k{n}": "v" * 50 for n in range(20_000)}}))
    assert json_size(keys[0].data) <= LIMITS.data_bytes


def test_deep_payloads_stay_within_the_limit() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = {"a": [deep]}
    (event,) = events(line({"hook_event_name": "X", "deep": deep}))
    assert not depth_exceeds(event.data, LIMITS.data_depth)


def test_ids_of_facts_are_ids() -> None:
    assert part_id("a.1", "") == "a.1"
    assert part_id("a.1", "test") == "a.1+test"
    long = part_id("x" * MAX_ID_LENGTH, "commit12")
    assert len(long) <= MAX_ID_LENGTH
    assert long.endswith("+commit12")
    assert long != part_id("y" * MAX_ID_LENGTH, "commit12")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)


@given(_JSON, st.dictionaries(st.sampled_from(["id", "timestamp", "session_id", "project", "source", "odd"]), _JSON))
def test_no_line_of_a_hook_breaks_anything(payload: Any, envelope: dict[str, Any]) -> None:
    for event in events(line(payload, **envelope)):
        assert event.id
        assert event.source
        assert json_size(event.data) <= LIMITS.data_bytes


# -- crashes -----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The daemon dies here."""


class DyingHub:
    """Dies at one of its commits, before or after it took effect."""

    def __init__(self, log: MemoryEventLog, at: int, *, after: bool) -> None:
        self.log, self.at, self.after = log, at, after
        self.batches: list[list[str]] = []

    def submit_made(
        self,
        make: Callable[[], Sequence[Event]],
        most: int,
        offsets: Sequence[SpoolOffset] = (),
        chain: Chain | None = None,
    ) -> asyncio.Future[list[Appended]]:
        dies = len(self.batches) == self.at
        self.batches.append([event.id for event in make()])
        if dies and not self.after:
            raise Killed
        future = self.log.append_made(make, most, offsets, chain)
        if dies:
            raise Killed
        return future


def drain(home: Home, hub: DyingHub) -> SpoolDrain:
    rows = [SpoolOffset(name, inode, offset) for (name, inode), offset in hub.log._offsets.items()]
    acceptor = Acceptor(LIMITS, RedactSettings(), CLOCK)
    rejected = RejectedLines(home, acceptor.redactor, CLOCK)
    return SpoolDrain(SpoolFiles(home), SpoolTable(rows), hub, acceptor, rejected, CLOCK)


@pytest.mark.parametrize("after", [False, True])
async def test_a_death_at_any_commit_loses_and_doubles_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(spool_batch, "BATCH_EVENTS", 1)
    monkeypatch.setattr(spool_merge, "PORTION", 1)
    names = [f"176942880000000{number}-4194400-8" for number in range(4)]
    wanted = [f"{name}.1{part}" for name in names for part in ("", "+commit", "+test")]
    place = Home(home)
    commits = 0
    for at in range(100):
        shutil.rmtree(home, ignore_errors=True)
        place.prepare()
        for number, name in enumerate(names):
            raw = line(COMMIT, id=f"{name}.1", timestamp=1_769_428_800 + number / 1e6)
            (place.spool / f"{name}.jsonl").write_bytes(b"\n" + raw + b"\n")
        log = MemoryEventLog(clock=CLOCK)
        hub = DyingHub(log, at, after=after)
        try:
            await drain(place, hub).turn(lambda: Changes({}, complete=False))
        except Killed:
            commits += 1
        else:
            break
        second = DyingHub(log, -1, after=False)
        await drain(place, second).turn(lambda: Changes({}, complete=False))
        assert [event.id for event in log._events] == wanted
        # What is found in a line is never committed apart from it.
        for batch in hub.batches + second.batches:
            assert len(batch) % 3 == 0
    assert commits >= 4

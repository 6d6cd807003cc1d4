"""One event as one line."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_loop.catalogue import CATALOGUE
from claude_loop.cli.lines import Subjects, describe, short_hash
from claude_loop.cli.terminal import clock_time, printable
from claude_loop.clock import parse_time


class Unknown:
    """A read model that cannot be asked."""

    def story(self, event: dict[str, Any]) -> None:
        del event

    def run(self, event: dict[str, Any]) -> None:
        del event


def line(type_: str, **data: Any) -> str:
    event = {"seq": 1, "type": type_, "project": "shop", "prd_id": "P", "story_id": "US-001", "data": data}
    described = describe(event, Unknown())
    return f"{described.mark} {described.text}"


UNTIL = "2026-01-26T12:00:00Z"


@pytest.mark.parametrize(
    ("type_", "data", "shown"),
    [
        ("prd.started", {"status": "running", "total_stories": 5}, "▶ started, 5 stories"),
        ("prd.started", {"status": "running"}, "▶ started"),
        ("prd.started", {"total_stories": 1, "title": "Checkout"}, "▶ started, 1 story, Checkout"),
        ("run.started", {"command": "./loop.sh"}, "▶ run started: ./loop.sh"),
        ("run.completed", {"success": True, "exit_code": 0}, "■ run ended, exit status 0"),
        ("run.completed", {"success": False, "exit_code": 2}, "■ run failed, exit status 2"),
        ("run.completed", {"exit_code": 2}, "■ run failed, exit status 2"),
        ("iteration.started", {"iteration": 3, "max_iterations": 20}, "↻ iteration 3 of 20"),
        ("iteration.completed", {"iteration": 3}, "↻ iteration 3 completed"),
        ("story.started", {}, "▷ started"),
        ("usage.reported", {"cost_usd": 0.42, "model": "sonnet"}, "· used $0.42 (sonnet)"),
        ("usage.reported", {"output_tokens": 9, "cumulative": True}, "· used 9 tokens out by its session so far"),
        ("usage.reported", {"cost_usd": "much"}, "· used an unreadable amount"),
        ("story.blocked", {"reason": "needs US-002"}, "⊘ blocked: needs US-002"),
        ("story.blocked", {}, "⊘ blocked"),
        ("story.completed", {"success": False}, "✗ failed"),
        ("story.completed", {"success": True}, "~ says it is done"),
        ("prd.completed", {"success": True}, "■ says it is finished"),
        ("prd.completed", {"success": False}, "■ finished without success"),
        (
            "test.run",
            {"passed": 10, "failed": 2, "failures": [{"name": "test_total"}, {"name": "test_coupon"}]},
            "✗ tests 10 passed 2 failed: test_total, test_coupon",
        ),
        ("test.run", {"passed": 12, "failed": 0}, "✓ tests 12 passed"),
        ("test.run", {"passed": 12, "failed": 0, "skipped": 3}, "✓ tests 12 passed 3 skipped"),
        ("test.run", {"passed": 0, "failed": 0}, "✗ tests 0 passed"),
        ("test.run", {}, "✗ tests without a readable result"),
        ("commit.created", {"commit_hash": "abc123d", "subject": "Cart totals"}, "● commit abc123d Cart totals"),
        ("commit.created", {"commit_hash": "0123456789" * 4}, "● commit 0123456"),
        ("session.started", {"agent": "claude", "model": "sonnet"}, "◇ claude (sonnet) begins a session"),
        ("session.started", {}, "◇ an agent begins a session"),
        ("session.ended", {"reason": "clear"}, "◇ session ended: clear"),
        ("prompt.submitted", {"prompt": "fix\nit"}, "❯ prompt: fix it"),
        ("tool.started", {"tool": "Bash", "summary": "ls"}, "… Bash ls"),
        ("tool.completed", {"tool": "Bash", "summary": "pytest", "duration_ms": 83_000}, "· Bash pytest · 1m23s"),
        ("tool.failed", {"tool": "Bash", "error": "Exit code 1"}, "✗ Bash: Exit code 1"),
        ("tool.completed", {"tool": 7, "duration_ms": True}, "· 7"),
        ("agent.message", {"message": "Done."}, "“ says: Done."),
        ("agent.idle", {}, "◇ has finished its turn"),
        (
            "agent.retrying",
            {"error": "overloaded", "attempt": 2, "max_attempts": 10},
            "↻ tries again after overloaded, attempt 2 of 10",
        ),
        ("subagent.started", {"agent_type": "Explore", "description": "look"}, "◇ Explore begins: look"),
        ("subagent.ended", {}, "◇ a subagent has ended"),
        ("plan.updated", {"stories": [{"passes": True}, {}, 3]}, "≡ plan: 3 stories, 1 done"),
        ("plan.updated", {"stories": 3}, "≡ plan"),
        ("alert.sent", {"kind": "waiting"}, "♪ notified: waiting"),
        ("error.occurred", {"error": "boom\nat line 2"}, "! error: boom at line 2"),
        ("log.message", {"level": "info", "message": "hello"}, "· hello"),
        ("log.message", {"level": "warning", "message": "careful"}, "· warning: careful"),
        ("progress.updated", {"current": 3, "total": 8, "message": "files"}, "· 3 of 8 files"),
        ("progress.updated", {"current": 3.0, "total": 7.5}, "· 3 of 7.5"),
        (
            "agent.waiting",
            {"for": "human", "reason": "permission Bash rm -rf build"},
            "⏸ waiting for you: permission Bash rm -rf build",
        ),
        (
            "agent.waiting",
            {"for": "rate_limit", "reason": "limit", "until": UNTIL},
            f"⏸ waiting for the rate limit: limit, until {clock_time(parse_time(UNTIL) // 1000)}",
        ),
        ("agent.waiting", {"for": "other", "reason": "x", "until": "soon"}, "⏸ waiting for something: x, until soon"),
        ("agent.resumed", {}, "▶ goes on"),
        ("system.run_vanished", {"pid": 7}, "☠ its process is gone without finishing: 7"),
        (
            "deploy.done",
            {"to": "staging", "ok": True, "hosts": ["a", "b"]},
            '· deploy.done to=staging ok=true hosts=["a", "b"]',
        ),
    ],
)
def test_each_kind_of_event(type_, data, shown):
    assert line(type_, **data) == shown


def test_only_some_failing_tests_are_named():
    names = [{"name": f"test_{n}"} for n in range(8)]
    assert line("test.run", passed=0, failed=8, failures=names).endswith("test_3, test_4 and 3 more")


def test_only_some_fields_of_an_unknown_event_are_shown():
    assert line("a.b", **{f"k{n}": n for n in range(9)}) == "· a.b k0=0 k1=1 k2=2 k3=3 k4=4 k5=5 …"


@pytest.mark.parametrize(
    ("type_", "data", "shown"),
    [
        ("story.started", {"_invalid": ["`story_id` is missing."]}, "▷ started · not valid: `story_id` is missing"),
        ("test.run", {"_invalid": ["a.", "b."]}, "✗ tests without a readable result · not valid: a and 1 more"),
        ("a.b", {"k": 1, "_invalid": ["no."]}, "· a.b k=1 · not valid: no"),
        ("a.b", {"_invalid": "anything"}, "· a.b"),
        ("test.run", {"_forgotten": True}, "· test.run, forgotten"),
        ("story.completed", {"_forgotten": True}, "· story.completed, forgotten"),
        ("a.b", {"_forgotten": True, "k": 1}, "· a.b _forgotten=true k=1"),
    ],
)
def test_what_is_wrong_with_an_event_is_said_behind_it(type_, data, shown):
    assert line(type_, **data) == shown


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = sorted(
    {"passed", "failed", "skipped", "failures", "success", "status", "for", "reason", "until", "level", "message"}
    | {"current", "total", "iteration", "max_iterations", "exit_code", "command", "title", "total_stories", "pid"}
    | {"commit_hash", "subject", "error"}
)


@given(st.sampled_from(sorted(CATALOGUE)) | st.just("x.y"), st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_whatever_the_data_holds_is_one_safe_line(type_, data):
    shown = line(type_, **data)
    assert printable(shown, 10_000) == shown


@pytest.mark.parametrize(
    ("given_", "shown"),
    [("abc123d", "abc123d"), ("0123456789abcdef" * 4, "0123456"), (None, "None"), ("release-2026-01", "release-202…")],
)
def test_hashes_are_short(given_, shown):
    assert short_hash(given_) == shown


def test_the_subject_column_grows_and_never_shrinks():
    subjects = Subjects()

    def column(project: str | None, prd: str | None, story: str | None) -> str:
        return subjects.column({"project": project, "prd_id": prd, "story_id": story})

    assert column("shop", "SHOP-7", None) == "shop/SHOP-7       "
    assert column("shop", "SHOP-7", "US-001") == "shop/SHOP-7 US-001"
    assert column(None, None, None) == "-" + " " * 17
    assert column("a-longer-project", "PRD-001", "US-001") == "a-longer-project/PRD-001 US-001"
    assert len(column("shop", "SHOP-7", None)) == 31
    assert len(column("p" * 40, "q" * 40, "r" * 40)) == 122  # moves its own line only
    assert len(column("shop", "SHOP-7", None)) == 44
    assert column("a\x1b[31m\nb", "x\u202ey", "z").rstrip() == "a b/x\ufffdy z"

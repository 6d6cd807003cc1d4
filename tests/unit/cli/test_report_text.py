"""The report in words: that of an agent without a PRD; the rest is read in tests/e2e/test_report.py."""

from claude_loop.cli.report_html import as_html
from claude_loop.cli.report_text import as_markdown, as_text, clock

HOUR = 3_600_000
NOW = 1_769_428_800_000
NOTHING = {
    "tests": {"runs": 1, "passing": 1, "failed": 0},
    "commits": 0, "latest_commits": [], "errors": 0, "latest_errors": [], "waits": [], "waits_omitted": 0, "waited_ms": 0,
}  # fmt: skip


def need(**given):
    return {
        "project": "shop", "prd_id": None, "session_id": "S1", "agent": "claude", "title": "a chat", "state": "waiting",
        "waits_for": "human", "until": None, "since": NOW - HOUR, "reason": "permission Bash rm -rf build",
    } | given  # fmt: skip


def night():
    session = {
        "session_id": "S1", "agent": "claude", "state": "waiting", "began_at": NOW - 2 * HOUR, "ended_at": None,
        "last_at": NOW - HOUR, "last_prompt": "Fix the <coupons>",
    }  # fmt: skip
    limited = need(project=None, agent=None, waits_for="rate_limit", until=NOW + HOUR, reason="usage limit")
    ended = session | {"state": "ended", "ended_at": NOW - HOUR, "last_prompt": None}
    project = {"project": "shop", "sessions": [session, ended], "sessions_omitted": 4, **NOTHING}
    return {
        "since": NOW - 12 * HOUR, "until": NOW, "now": NOW, "needs": [need(), limited], "prds": [], "projects": [project],
    }  # fmt: skip


def test_it_is_named_by_agent_and_project_and_what_it_was_asked_stands_below():
    since = f"since {clock(NOW - HOUR, NOW)} (1h00m)"
    began = clock(NOW - 2 * HOUR, NOW)
    assert list(as_text(night()))[2:] == [
        "Needs you now:",
        f"  claude in shop: waits for you {since}: permission Bash rm -rf build",
        f"  an agent: waits for the rate limit until {clock(NOW + HOUR, NOW)} {since}: usage limit",
        "",
        "◇ shop, without a PRD",
        "    6 agents, the latest:",
        f"    - claude, {began} to now, waiting: Fix the <coupons>",
        f"    - claude, {began} to {clock(NOW - HOUR, NOW)}, ended",
        "    1 test run, 1 passed",
    ]
    markdown = list(as_markdown(night()))
    assert "## shop, without a PRD" in markdown
    assert rf"  - claude, {began} to now, waiting: Fix the \<coupons\>" in markdown
    html = as_html(night())
    assert "<h2>shop, without a PRD</h2>" in html
    assert "Fix the &lt;coupons&gt;" in html
    assert "Nothing" not in html


def test_where_nothing_happened_it_says_so():
    quiet = night() | {"needs": [], "projects": []}
    assert list(as_text(quiet))[2:] == ["Nothing needs you.", "", "Nothing happened."]

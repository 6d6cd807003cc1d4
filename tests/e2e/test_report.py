"""`claude-loop report` and `GET /api/report` with the real daemon."""

from __future__ import annotations

import json

import pytest

from tests.e2e.daemon import Daemon


@pytest.fixture
def daemon(home):
    with Daemon(home) as one:
        yield one


def emit(daemon, type_, *data, prd="SHOP-7", story=None):
    ids = ["--project", "shop", "--prd", prd, *(["--story", story] if story else [])]
    done = daemon.run("emit", type_, *ids, "--wait", *data)
    assert done.returncode == 0, done.stderr


def a_night(daemon):
    emit(daemon, "prd.started", "total_stories:=3", "title=Cart <b>totals</b>")
    emit(daemon, "story.started", story="US-001")
    emit(daemon, "test.run", "passed:=10", "failed:=2", story="US-001")
    emit(daemon, "test.run", "passed:=12", "failed:=0", story="US-001")
    emit(daemon, "commit.created", "commit_hash=abc123d", "subject=Cart totals", story="US-001")
    emit(daemon, "story.completed", "success:=true", story="US-001")
    emit(daemon, "story.started", story="US-002")
    emit(daemon, "error.occurred", "error=API overloaded", story="US-002")
    emit(daemon, "story.completed", "success:=true", story="US-002")
    emit(daemon, "agent.waiting", "for=human", "reason=permission Bash rm -rf build")
    emit(daemon, "prd.started", prd="SHOP-8")
    emit(daemon, "prd.completed", "success:=false", prd="SHOP-8")


def test_a_night_in_one_screen_what_needs_a_person_first(daemon):
    a_night(daemon)
    said = daemon.run("report")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].startswith("Report: ")
    assert lines[2] == "Needs you now:"
    assert "shop/SHOP-7 Cart <b>totals</b>: waits for you since" in lines[3]
    assert lines[3].endswith("permission Bash rm -rf build")
    assert "shop/SHOP-8: failed since" in lines[4]
    text = said.stdout
    assert "3 stories: 1 verified · 1 claimed" in text
    assert "claimed: US-002: no test run" in text
    assert "2 test runs, 1 passed, 2 failures in the others" in text
    assert "1 commit: abc123d Cart totals" in text
    assert "1 error, the last: API overloaded" in text
    assert "1 wait, " in text
    assert len(lines) < 30


def test_formats_ranges_and_projects(daemon):
    a_night(daemon)
    html = daemon.run("report", "--format", "html").stdout
    assert "<b>" not in html
    assert "Cart &lt;b&gt;totals&lt;/b&gt;" in html
    assert "<script" not in html
    assert "prefers-color-scheme: dark" in html
    markdown = daemon.run("report", "--format", "md").stdout
    assert r"Cart \<b\>totals\</b\>" in markdown
    assert "\n  - " in markdown
    assert "- - " not in markdown
    answer = json.loads(daemon.run("report", "--format", "json").stdout)
    assert [need["state"] for need in answer["needs"]] == ["waiting", "failed"]
    assert answer["until"] - answer["since"] == 12 * 3600 * 1000
    assert json.loads(daemon.run("report", "--format", "json", "--project", "other").stdout)["prds"] == []
    before = json.loads(daemon.run("report", "--format", "json", "--since", "3d", "--until", "2d").stdout)
    assert before["prds"] == []
    assert [need["prd_id"] for need in before["needs"]] == ["SHOP-7"]  # it waits now, whenever one asks
    wrong = daemon.run("report", "--since", "yesterday-ish")
    assert wrong.returncode == 2
    assert "--since" in wrong.stderr

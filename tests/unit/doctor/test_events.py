from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from claude_loop.client import DaemonClient
from claude_loop.clock import SystemClock, rfc3339
from claude_loop.doctor import events as checks
from claude_loop.doctor.scene import Scene
from claude_loop.errors import DaemonUnreachable
from tests.unit.doctor.scenes import answering, findings, only, scene

NOW_US = SystemClock().now_us()


def stored(type_: str, reasons: Any, days_ago: float = 0, seq: int = 1) -> dict[str, Any]:
    at = rfc3339(round(NOW_US - days_ago * 86_400_000_000) // 1000)
    return {"seq": seq, "type": type_, "source": "bash", "received_at": at, "data": {"_invalid": reasons}}


@dataclass
class Pages:
    """In the daemon's place: what it answers, page by page, and what it was asked."""

    pages: list[list[dict[str, Any]]]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, query: dict[str, Any], timeout: float) -> dict[str, Any]:
        assert (path, timeout) == ("/api/events", checks.ANSWER_SECONDS)
        self.asked.append(dict(query))
        if "q" not in query:
            return {"events": [{"seq": 440}]}
        number = len(self.asked) - 1
        return {"events": self.pages[number], "more": number + 1 < len(self.pages), "cursor": f"c{number}"}


def with_pages(monkeypatch: pytest.MonkeyPatch, *pages: list[dict[str, Any]]) -> tuple[Scene, Pages]:
    found = Pages(list(pages))
    monkeypatch.setattr(DaemonClient, "get", lambda _self, *given, **named: found.get(*given, **named))
    return scene(answering(log={"head": 1000})), found


def test_without_a_daemon_nothing_is_said() -> None:
    assert findings(checks.invalid, scene()) == []


def test_a_log_without_such_events(monkeypatch: pytest.MonkeyPatch) -> None:
    where, pages = with_pages(monkeypatch, [], [stored("note.made", "my text says _invalid")])
    assert only(checks.invalid, where).level == "ok"
    assert [one.get("before") for one in pages.asked] == [None, "c0"]


def test_types_fields_count_and_time_are_told_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = stored("test.run", ["`data.passed`: Field required.", "`total`: “canary” is no number."])
    older = stored("test.run", ["`passed` is missing."], days_ago=9)
    commit = stored("commit.created", ["`commit_hash` is not 4 to 64 hexadecimal digits."])
    where, _ = with_pages(monkeypatch, [tests, commit], [older])
    first, second = findings(checks.invalid, where)
    assert first.level == second.level == "warning"
    assert first.sentence.startswith(
        "2 events of type test.run are marked `_invalid` and prove nothing: `passed`, `total`"
    )
    assert f"came {tests['received_at'][:10]} {tests['received_at'][11:16]} UTC from bash" in first.sentence
    assert "canary" not in first.sentence
    assert first.fix == (
        f"claude-loop tail --type test.run --since {older['received_at']} --no-follow | grep 'not valid'"
    )
    assert second.sentence.startswith("1 event of type commit.created is marked")


def test_what_has_not_come_for_days_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    where, _ = with_pages(monkeypatch, [stored("test.run", ["`passed` is missing."], days_ago=8)])
    assert only(checks.invalid, where).level == "ok"


def test_many_types_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    where, _ = with_pages(monkeypatch, [stored(f"a.b{n}", ["`x` is missing."]) for n in range(7)])
    found = findings(checks.invalid, where)
    assert len(found) == 6
    assert "2 more" in found[-1].sentence


def test_of_many_the_newest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [stored("test.run", ["`passed` is missing."], days_ago=n / 10) for n in range(21)]
    where, _ = with_pages(monkeypatch, many)
    assert f"--since {many[0]['received_at']} " in str(only(checks.invalid, where).fix)


def test_a_long_log_is_looked_through_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LOOK_SECONDS", -1.0)
    where, pages = with_pages(monkeypatch, [stored("test.run", ["`passed` is missing."])], [])
    assert "1 event of type test.run among the newest 560 is marked" in only(checks.invalid, where).sentence
    assert pages.asked[-1] == {"before": "c0", "order": "desc", "limit": 1}


def test_a_daemon_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise DaemonUnreachable("The daemon broke off.", hint="")

    monkeypatch.setattr(DaemonClient, "get", broken)
    assert "could not be looked through" in only(checks.invalid, scene(answering())).sentence

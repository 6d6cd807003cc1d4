"""Where `tail` begins."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest

from claude_loop.cli.since import before_last, since

NOW = datetime(2026, 1, 26, 12, 0, 30, tzinfo=timezone(timedelta(hours=2)))
CURSOR = "0123456789abcdef.42.0011223344"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(json.loads(since(text, NOW)["from"])["since"])


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
        ("12:00", timedelta(seconds=30)),
        ("11:59:30", timedelta(minutes=1)),
        ("12:01", timedelta(hours=24) - timedelta(seconds=30)),  # not yet today: yesterday
        ("2026-01-26T12:00:00+02:00", timedelta(seconds=30)),
        ("2026-01-26T10:00:00Z", timedelta(seconds=30)),
        ("1769421600", timedelta(seconds=30)),
        ("1769421600000", timedelta(seconds=30)),
        ("9999-01-01T00:00:00Z", NOW - datetime(9999, 1, 1, tzinfo=UTC)),
    ],
)
def test_times(text, ago):
    assert moment(text) == NOW - ago


@pytest.mark.parametrize("text", ["2026-01-26T12:00:00", "2026-01-26 12:00", "2026-01-26"])
def test_a_time_without_an_offset_is_local_as_the_output_is(text):
    assert moment(text) == datetime.fromisoformat(text).astimezone()


def test_an_age_beyond_the_beginning_is_the_beginning():
    assert moment("999999999w") == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["start", "now", CURSOR])
def test_words_and_cursors_go_to_the_server_as_they_are(text):
    assert since(text, NOW) == {"from": text}


@pytest.mark.parametrize(
    "text", ["", "yesterday", "10x", "-5m", "25:00", "12:60", "2026-13-01", "2026-W05-1", "9" * 20, CURSOR[:-1]]
)
def test_nonsense_is_refused_and_named(text):
    with pytest.raises(click.BadParameter) as refusal:
        since(text, NOW)
    assert f"“{text}”" in refusal.value.message


class Pages:
    """Answers `GET /api/events` from a list of types, newest first."""

    def __init__(self, types: str) -> None:
        self.types = types.split()
        self.asked: list[int] = []

    def get(self, path: str, query: dict) -> dict:
        assert (path, query["order"], query["prd_id"]) == ("/api/events", "desc", ("P",))
        limit = query["limit"]
        self.asked.append(limit)
        events = [{"type": type_} for type_ in self.types[:limit]]
        return {"events": events, "more": len(self.types) > limit, "cursor": f"before {len(events)}"}


@pytest.mark.parametrize(
    ("types", "count", "start", "asked"),
    [
        ("a b c d", 2, {"from": "before 2"}, [2]),
        ("a h b h c d", 2, {"from": "before 3"}, [2, 3]),
        ("h h h a b c d", 2, {"from": "before 5"}, [2, 4, 5]),
        ("h a", 5, {"from": '{"last": 5}'}, [5]),
        ("", 5, {"from": '{"last": 5}'}, [5]),
        ("h h h a", 2, {"from": '{"last": 4}'}, [2, 4]),
        ("a b", 0, {"from": '{"last": 0}'}, []),
        ("a b", 5000, {"from": '{"last": 5000}'}, []),
    ],
)
def test_hidden_events_do_not_count(types, count, start, asked):
    pages = Pages(types)
    assert before_last(pages, {"prd_id": ("P",)}, count, frozenset({"h"})) == start  # type: ignore[arg-type]
    assert pages.asked == asked


def test_without_hidden_events_nothing_is_asked():
    pages = Pages("a b c")
    assert before_last(pages, {}, 2, frozenset()) == {"from": '{"last": 2}'}  # type: ignore[arg-type]
    assert pages.asked == []

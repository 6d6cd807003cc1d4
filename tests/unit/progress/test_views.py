"""What the lists of PRDs and the page of one PRD are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from claude_loop.errors import AmbiguousPrd, NotFound
from claude_loop.progress import views
from claude_loop.progress.views import Moment, find_prd, list_cards, prd_detail, today_since_ms
from tests.unit.progress.scenarios import STALLED_AFTER_MS, START_MS, World, play


class Reader:
    """The documents of a world, read as the log reads them."""

    def __init__(self, world: World) -> None:
        self._documents = world.documents

    async def entities(self, prefix: str) -> dict[str, dict[str, Any]]:
        return {key: self._documents[key] for key in sorted(self._documents) if key.startswith(prefix)}


def at(world: World, today_ms: int | None = None) -> Moment:
    return Moment(world.now_ms, STALLED_AFTER_MS, START_MS if today_ms is None else today_ms)


async def test_cards_come_in_the_order_in_which_they_need_somebody():
    world = play("prd.started prd=yesterday → prd.completed prd=yesterday success=true")
    yesterday = world.now_ms
    world.play("10 min → prd.started prd=stalled → prd.started prd=vanished → system.run_vanished prd=vanished pid=1")
    world.play("prd.started prd=waiting-2 → prd.started prd=waiting-1 → agent.waiting prd=waiting-1 for=other reason=x")
    world.play(
        "agent.waiting prd=waiting-2 for=human reason=x → prd.started prd=done → prd.completed prd=done success=true"
    )
    world.play("6 min → prd.started prd=failed → prd.completed prd=failed success=false → prd.started prd=running-1")
    world.play("prd.started prd=running-2 → prd.started prd=paused → control.paused prd=paused")
    cards = await list_cards(Reader(world), at(world, today_ms=yesterday + 1))
    assert [(card["prd_id"], card["group"]) for card in cards] == [
        ("waiting-2", "waiting"),  # for a person, although it began to wait later
        ("waiting-1", "waiting"),
        ("vanished", "vanished"),
        ("failed", "failed"),
        ("stalled", "stalled"),
        ("paused", "paused"),
        ("running-2", "running"),
        ("running-1", "running"),
        ("done", "today"),
        ("yesterday", "earlier"),
    ]


async def test_a_card_is_the_latest_run_with_what_the_prd_adds():
    world = play("prd.started title=Checkout → prd.started → story.started → 2 min")
    [card] = await list_cards(Reader(world), at(world))
    assert card["title"] == "Checkout"
    assert (card["number"], card["runs"], card["run_id"]) == (2, 2, "event-2")
    assert (card["elapsed_ms"], card["silent_ms"]) == (121_000, 120_000)
    assert {**world.run(), **card} == card


async def test_elapsed_time_ends_with_the_run():
    world = play("prd.started → 2 min → prd.completed success=true → 5 min")
    [card] = await list_cards(Reader(world), at(world))
    assert card["elapsed_ms"] == 121_000
    world = play("prd.started → 2 min → system.run_vanished pid=1 → 5 min")
    [card] = await list_cards(Reader(world), at(world))
    assert card["elapsed_ms"] == 121_000


async def test_the_time_of_a_run_that_a_later_one_followed_ends_with_its_last_event():
    world = play("prd.started → story.started → 2 min → prd.started → 5 min")
    earlier = await prd_detail(Reader(world), "PRD-1", at(world), run_id="event-1")
    assert earlier["run"]["elapsed_ms"] == 1_000


async def test_the_detail_has_one_runs_stories_and_all_runs():
    world = play(
        "prd.started → story.started story=US-9 → story.started story=US-1 → prd.started → story.started story=US-5"
    )
    detail = await prd_detail(Reader(world), "PRD-1", at(world))
    assert (detail["prd"]["run_id"], detail["run"]["run_id"]) == ("event-4", "event-4")
    assert [story["story_id"] for story in detail["stories"]] == ["US-5"]
    assert [run["number"] for run in detail["runs"]] == [2, 1]
    earlier = await prd_detail(Reader(world), "PRD-1", at(world), run_id="event-1")
    assert (earlier["prd"]["run_id"], earlier["run"]["run_id"]) == ("event-4", "event-1")
    assert [story["story_id"] for story in earlier["stories"]] == ["US-9", "US-1"]
    with pytest.raises(NotFound):
        await prd_detail(Reader(world), "PRD-1", at(world), run_id="R7")


async def test_ids_that_begin_alike_are_kept_apart():
    world = play("prd.started run=R1 → story.started run=R1 → story.started run=R10 → prd.started prd=PRD-10")
    detail = await prd_detail(Reader(world), "PRD-1", at(world), run_id="R1")
    assert ([run["run_id"] for run in detail["runs"]], len(detail["stories"])) == (["R10", "R1"], 1)


async def test_an_enormous_run_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "MAX_STORIES", 3)
    monkeypatch.setattr(views, "MAX_RUNS", 1)
    world = play("prd.started → prd.started → story.started story=1 → story.started story=2 → story.started story=3")
    world.play("story.started story=4 → story.completed story=1 success=true")
    detail = await prd_detail(Reader(world), "PRD-1", at(world))
    assert [story["story_id"] for story in detail["stories"]] == ["1", "3", "4"]
    assert (detail["stories_omitted"], detail["runs_omitted"]) == (1, 1)


async def test_a_prd_is_found_by_its_id_if_only_one_project_has_it():
    world = play(
        "prd.started prd=A project=shop → prd.started prd=B project=shop → prd.started prd=B → prd.started prd=B project=x"
    )
    reader = Reader(world)
    assert (await find_prd(reader, "A"))["project"] == "shop"
    assert (await find_prd(reader, "B", "x"))["project"] == "x"
    assert (await find_prd(reader, "B", views.NO_PROJECT))["project"] is None
    with pytest.raises(AmbiguousPrd, match=r"\(none\), shop, x"):
        await find_prd(reader, "B")
    for prd_id, project in (("C", None), ("A", "x"), ("A", views.NO_PROJECT)):
        with pytest.raises(NotFound):
            await find_prd(reader, prd_id, project)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("shop-7", "Did you mean SHOP-7 of shop? "),
        ("SHOP7", "Did you mean SHOP-7 of shop? "),
        ("shop/SHOP-7", "Did you mean SHOP-7 of shop? "),
        ("Check", "Did you mean Checkout-2? "),
        ("SHO", "Did you mean SHOP-7 of shop? "),
        ("C", ""),
        ("elsewhere", ""),
    ],
)
async def test_an_unknown_prd_is_answered_with_the_one_that_was_meant(asked: str, meant: str):
    world = play("prd.started prd=SHOP-7 project=shop → prd.started prd=Checkout-2 → prd.started prd=Cart")
    with pytest.raises(NotFound) as refusal:
        await find_prd(Reader(world), asked)
    assert refusal.value.hint == f"{meant}`claude-loop prds` lists those there are."


@pytest.mark.parametrize(
    ("now", "since"),
    [
        ("2026-01-27T00:08", "2026-01-26T12:08"),
        ("2026-01-27T11:59", "2026-01-26T23:59"),
        ("2026-01-27T12:01", "2026-01-27T00:00"),
        ("2026-01-27T23:59", "2026-01-27T00:00"),
    ],
)
def test_today_reaches_back_to_midnight_and_at_least_twelve_hours(now: str, since: str):
    def local_ms(text: str) -> int:
        return int(datetime.fromisoformat(text).timestamp() * 1000)

    assert today_since_ms(local_ms(now)) == local_ms(since)


async def test_what_was_done_before_midnight_is_still_todays_in_the_night():
    noon = datetime.fromtimestamp(START_MS / 1000).astimezone()
    midnight = int(noon.replace(hour=0, minute=0, second=0).timestamp() * 1000)
    world = World()
    world.now_ms = midnight - 180_000
    world.play("prd.started → prd.completed success=true")
    hours = {after: Moment(midnight + after * 3_600_000, STALLED_AFTER_MS) for after in (0, 11, 12)}
    groups = {after: (await list_cards(Reader(world), moment))[0]["group"] for after, moment in hours.items()}
    assert groups == {0: "today", 11: "today", 12: "earlier"}

"""`GET /api/events`: pages in both directions, filters, text, cursors that no longer fit."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_loop.clock import ManualClock
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.progress.projection import ProgressProjection
from claude_loop.transports import http_events
from tests.http_rig import serving


@pytest.fixture(params=["memory", "sqlite"])
def log(request, home):
    if request.param == "memory":
        return MemoryEventLog(ProgressProjection())
    home.mkdir(parents=True)
    return SqliteEventLog(home / "events.db", ProgressProjection())


def seqs(page):
    return [event["seq"] for event in page["events"]]


async def test_events_come_as_they_were_stored(log):
    async with serving(log) as rig:
        event = await rig.emit("a.b", data={"text": 'é "x" \n', "big": 2**60, "n": 1.5})
        async with rig.session.get("/api/events") as answer:
            text = await answer.text()
        assert text.startswith('{"events":[' + event.json + '],"cursor":"')
        assert orjson.loads(text)["more"] is False


async def test_pages_forwards(log):
    async with serving(log) as rig:
        await rig.emit_many(7)
        first = await rig.get("/api/events?limit=3")
        assert (seqs(first), first["more"]) == ([1, 2, 3], True)
        second = await rig.get(f"/api/events?limit=3&after={first['cursor']}")
        assert (seqs(second), second["more"]) == ([4, 5, 6], True)
        third = await rig.get(f"/api/events?limit=3&after={second['cursor']}")
        assert (seqs(third), third["more"]) == ([7], False)
        assert third["cursor"] == str(rig.hub.state.head_cursor)
        assert seqs(await rig.get(f"/api/events?after={third['cursor']}")) == []
        await rig.emit()
        assert seqs(await rig.get(f"/api/events?after={third['cursor']}")) == [8]


async def test_a_page_that_exactly_fits_has_no_more(log):
    async with serving(log) as rig:
        await rig.emit_many(4)
        assert (await rig.get("/api/events?limit=4"))["more"] is False
        assert (await rig.get("/api/events?limit=4&order=desc"))["more"] is False


async def test_pages_backwards(log):
    async with serving(log) as rig:
        await rig.emit_many(7)
        first = await rig.get("/api/events?order=desc&limit=3")
        assert (seqs(first), first["more"]) == ([7, 6, 5], True)
        second = await rig.get(f"/api/events?order=desc&limit=3&before={first['cursor']}")
        assert (seqs(second), second["more"]) == ([4, 3, 2], True)
        third = await rig.get(f"/api/events?order=desc&limit=3&before={second['cursor']}")
        assert (seqs(third), third["more"]) == ([1], False)
        assert third["cursor"] == str(rig.hub.state.trimmed_cursor)


async def test_every_event_is_either_after_a_cursor_or_before_it(log):
    async with serving(log) as rig:
        await rig.emit_many(5)
        place = str(await rig.hub.cursor_at(3))
        for order in ("asc", "desc"):
            after = await rig.get(f"/api/events?order={order}&after={place}")
            before = await rig.get(f"/api/events?order={order}&before={place}")
            assert sorted(seqs(after)) == [4, 5]
            assert sorted(seqs(before)) == [1, 2, 3]
            assert not after["more"]
            assert not before["more"]


async def test_a_range_between_two_cursors(log):
    async with serving(log) as rig:
        await rig.emit_many(9)
        low, high = await rig.hub.cursor_at(2), await rig.hub.cursor_at(7)
        assert seqs(await rig.get(f"/api/events?after={low}&before={high}")) == [3, 4, 5, 6, 7]
        assert seqs(await rig.get(f"/api/events?after={low}&before={high}&order=desc")) == [7, 6, 5, 4, 3]
        assert seqs(await rig.get(f"/api/events?after={high}&before={low}")) == []
        first = await rig.get(f"/api/events?after={low}&before={high}&limit=2")
        assert (seqs(first), first["more"]) == ([3, 4], True)


async def test_filters(log):
    async with serving(log) as rig:
        await rig.emit("story.started", "A", story_id="1", project="shop", session_id="s", source="bash")
        await rig.emit("story.completed", "B", story_id="1", project="shop", source="http")
        await rig.emit("test.run", "A", story_id="2", project="blog", run_id="r-9", source="bash")
        await rig.emit("note.made", None)
        for query, expected in {
            "prd_id=A": [1, 3],
            "prd_id=A&prd_id=B": [1, 2, 3],
            "type=story.*": [1, 2],
            "type=story.started&type=test.run": [1, 3],
            "type=*.r?n": [3],
            "project=shop": [1, 2],
            "project=shop&prd_id=A": [1],
            "story_id=1": [1, 2],
            "session_id=s": [1],
            "run_id=r-9": [3],
            "source=bash": [1, 3],
            "prd_id=Z": [],
        }.items():
            assert seqs(await rig.get(f"/api/events?{query}")) == expected, query
            assert seqs(await rig.get(f"/api/events?{query}&order=desc")) == expected[::-1], query


async def test_the_cursor_of_a_filtered_page_moves_past_what_was_filtered_out(log):
    async with serving(log) as rig:
        await rig.emit_many(5)
        page = await rig.get("/api/events?type=nothing")
        assert (page["events"], page["cursor"], page["more"]) == ([], str(rig.hub.state.head_cursor), False)


async def test_text_is_looked_for_regardless_of_case(log):
    async with serving(log) as rig:
        for word in ("Alpha one", "beta", "ALPHA two", "gamma", "alpha three"):
            await rig.emit(data={"word": word})
        assert seqs(await rig.get("/api/events?q=alpha")) == [1, 3, 5]
        assert seqs(await rig.get("/api/events?q=alpha&order=desc&limit=2")) == [5, 3]
        first = await rig.get("/api/events?q=alpha&limit=2")
        assert (seqs(first), first["more"]) == ([1, 3], True)
        assert seqs(await rig.get(f"/api/events?q=alpha&after={first['cursor']}")) == [5]
        assert seqs(await rig.get("/api/events?q=100%25")) == []
        assert seqs(await rig.get("/api/events?q=alpha_one")) == []


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_search_looks_at_a_bounded_part_of_the_log_and_says_where_to_go_on(log, order, monkeypatch):
    monkeypatch.setattr(http_events, "SEARCH_WINDOW", 10)
    monkeypatch.setattr(http_events, "SEARCH_SECONDS", 0.0)
    async with serving(log) as rig:
        for n in range(1, 46):
            await rig.emit(data={"word": "needle" if n in (3, 4, 35) else "hay"})
        found, pages, place = [], 0, ""
        while True:
            page = await rig.get(f"/api/events?q=needle&order={order}&limit=2{place}")
            found += seqs(page)
            pages += 1
            place = f"&{'after' if order == 'asc' else 'before'}={page['cursor']}"
            if not page["more"]:
                break
            assert pages < 10
        assert found == ([3, 4, 35] if order == "asc" else [35, 4, 3])
        assert pages == 5  # not fewer: each of them looked at one window
        assert page["cursor"] == str(rig.hub.state.head_cursor if order == "asc" else rig.hub.state.trimmed_cursor)


async def test_a_search_goes_on_through_windows_while_there_is_time(log, monkeypatch):
    monkeypatch.setattr(http_events, "SEARCH_WINDOW", 2)
    async with serving(log, clock=ManualClock()) as rig:  # on which no time passes
        for n in range(1, 30):
            await rig.emit(data={"word": "needle" if n % 7 == 0 else "hay"})
        page = await rig.get("/api/events?q=needle")
        assert (seqs(page), page["more"]) == ([7, 14, 21, 28], False)


async def test_an_empty_log(log):
    async with serving(log) as rig:
        for order in ("asc", "desc"):
            page = await rig.get(f"/api/events?order={order}")
            assert (page["events"], page["more"], page["cursor"]) == ([], False, str(rig.hub.state.head_cursor))


@pytest.mark.parametrize("parameter", ["after", "before"])
@pytest.mark.parametrize("reason", ["epoch", "ahead", "diverged", "trimmed"])
async def test_a_cursor_of_another_log_is_told_with_the_page(log, parameter, reason):
    async with serving(log) as rig:
        await rig.emit_many(9)
        epoch, digest = rig.hub.state.epoch, "0" * 10
        cursors = {
            "epoch": f"{'f' * 16}.2.{digest}",
            "ahead": f"{epoch}.99.{digest}",
            "diverged": f"{epoch}.6.{digest}",
            "trimmed": str(await rig.hub.cursor_at(2)),
        }
        await rig.hub.log.prune(0, 5, 100)
        page = await rig.get(f"/api/events?{parameter}={cursors[reason]}")
        goes_on = rig.hub.state.trimmed_cursor if reason == "trimmed" else rig.hub.state.head_cursor
        assert page["reset"] == {"reason": reason, "cursor": str(goes_on)}
        everything = [5, 6, 7, 8, 9]
        if parameter == "after":
            assert seqs(page) == (everything if reason == "trimmed" else [])
        else:
            assert seqs(page) == ([] if reason == "trimmed" else everything)


async def test_a_page_has_no_reset_unless_there_was_one(log):
    async with serving(log) as rig:
        await rig.emit_many(3)
        assert "reset" not in await rig.get("/api/events")
        assert "reset" not in await rig.get(f"/api/events?after={await rig.hub.cursor_at(1)}")


async def test_pruning_between_two_pages_is_never_a_silent_gap(log):
    async with serving(log) as rig:
        await rig.emit_many(20)
        first = await rig.get("/api/events?limit=5")
        await rig.hub.log.prune(0, 5, 100)
        second = await rig.get(f"/api/events?limit=5&after={first['cursor']}")
        assert second["reset"]["reason"] == "trimmed"
        assert seqs(second) == [16, 17, 18, 19, 20]


async def test_pruning_while_a_page_is_read_is_noticed():
    class PrunedMeanwhile(MemoryEventLog):
        pruned = False

        async def read(self, after, limit, *args, **options):
            if after and not self.pruned:
                self.pruned = True
                await self.prune(0, 5, 100)
            return await super().read(after, limit, *args, **options)

    async with serving(PrunedMeanwhile(ProgressProjection())) as rig:
        await rig.emit_many(20)
        page = await rig.get(f"/api/events?limit=5&after={await rig.hub.cursor_at(2)}")
        assert page["reset"]["reason"] == "trimmed"
        assert seqs(page) == [16, 17, 18, 19, 20]


async def test_a_page_ends_early_rather_than_become_huge(log, monkeypatch):
    monkeypatch.setattr(http_events, "PAGE_BYTES", 5000)
    async with serving(log) as rig:
        for n in range(10):
            await rig.emit(data={"n": n, "filler": "x" * 2000})
        page = await rig.get("/api/events")
        assert (seqs(page), page["more"]) == ([1, 2], True)
        page = await rig.get("/api/events?order=desc")
        assert (seqs(page), page["more"]) == ([10, 9], True)
        assert seqs(await rig.get(f"/api/events?order=desc&before={page['cursor']}")) == [8, 7]


async def test_one_event_larger_than_a_page_is_still_given(log, monkeypatch):
    monkeypatch.setattr(http_events, "PAGE_BYTES", 100)
    async with serving(log) as rig:
        await rig.emit_many(3)
        assert seqs(await rig.get("/api/events")) == [1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_pages_of_any_size_in_any_direction_give_everything_once(data):
    kinds = data.draw(st.lists(st.sampled_from(["a.a", "b.b", "c.c"]), max_size=40))
    wanted = data.draw(st.sets(st.sampled_from(["a.a", "b.b", "c.c"]), min_size=1))
    limit = data.draw(st.integers(1, 9))
    step = data.draw(st.integers(1, 5))
    descending = data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_events, "_STEP", step)
        async with serving(clock=ManualClock()) as rig:
            for kind in kinds:
                await rig.emit(kind)
            seen, path = [], "/api/events?" + "&".join([f"limit={limit}", *(f"type={kind}" for kind in wanted)])
            place = ""
            while True:
                page = await rig.get(path + ("&order=desc" if descending else "") + place)
                seen += seqs(page)
                assert len(page["events"]) <= limit
                if not page["more"]:
                    break
                assert len(page["events"]) == limit
                place = f"&{'before' if descending else 'after'}={page['cursor']}"
            expected = [n for n, kind in enumerate(kinds, 1) if kind in wanted]
            assert seen == (expected[::-1] if descending else expected)


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("colour=red", "invalid_request", "colour"),
        ("limit=0", "invalid_request", "limit"),
        ("limit=1001", "invalid_request", "limit"),
        ("limit=ten", "invalid_request", "limit"),
        ("limit=-5", "invalid_request", "limit"),
        ("limit=1&limit=2", "invalid_request", "limit"),
        ("limit=%D9%A3", "invalid_request", "limit"),
        ("order=up", "invalid_request", "order"),
        ("after=", "invalid_cursor", "after"),
        ("after=42", "invalid_cursor", "after"),
        ("after=now", "invalid_cursor", "after"),
        ("before=x.y.z", "invalid_cursor", "before"),
        ("q=", "invalid_request", "q"),
        (f"q={'x' * 201}", "invalid_request", "q"),
        ("prd_id=", "invalid_filter", "prd_id"),
        (f"prd_id={'x' * 129}", "invalid_filter", "prd_id"),
        ("&".join(f"type=t{n}" for n in range(101)), "invalid_filter", "type"),
        ("from=start", "invalid_request", "from"),
    ],
)
async def test_nonsense_is_refused_by_name(query, code, field):
    async with serving() as rig:
        refusal = await rig.refusal(f"/api/events?{query}")
        assert (refusal["status"], refusal["code"], refusal["field"]) == (400, code, field)
        assert refusal["message"]


async def test_a_refused_parameter_is_shown_without_its_control_characters():
    async with serving() as rig:
        refusal = await rig.refusal("/api/events?%1b%5b31mred=1")
        assert "\x1b" not in refusal["message"] + refusal["field"]


async def test_head_is_get_without_a_body():
    async with serving() as rig, rig.session.head("/api/events") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"

"""`GET /api/prds…`: cards, details and the patches that a replay applies."""

import pytest

from claude_loop.clock import ManualClock
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.eventlog.sqlite import SqliteEventLog
from claude_loop.progress.patches import apply_patches
from claude_loop.progress.projection import ProgressProjection
from tests.http_rig import serving

STORY = [
    ("prd.started", {"status": "running", "total_stories": 2}, None),
    ("story.started", {"story_id": "US-001", "status": "in_progress"}, "US-001"),
    ("test.run", {"story_id": "US-001", "passed": 3, "failed": 0, "total": 3}, "US-001"),
    ("commit.created", {"story_id": "US-001", "commit_hash": "abc123d"}, "US-001"),
    ("story.completed", {"story_id": "US-001", "success": True, "status": "completed"}, "US-001"),
]


@pytest.fixture(params=["memory", "sqlite"])
def log(request, home, clock):
    if request.param == "memory":
        return MemoryEventLog(ProgressProjection(), clock)
    home.mkdir(parents=True)
    return SqliteEventLog(home / "events.db", ProgressProjection(), clock)


@pytest.fixture
def clock():
    return ManualClock()


async def work(rig, prd_id="PRD-001", project="shop"):
    for type_, data, story_id in STORY:
        await rig.emit(type_, prd_id, data=dict(data), story_id=story_id, project=project)


async def test_cards_and_details(log, clock):
    async with serving(log, clock=clock) as rig:
        await work(rig)
        (card,) = (await rig.get("/api/prds"))["prds"]
        assert (card["project"], card["prd_id"], card["state"], card["group"]) == (
            "shop",
            "PRD-001",
            "running",
            "running",
        )
        assert card["counts"]["verified"] == 1
        detail = await rig.get("/api/prds/PRD-001")
        assert detail["prd"] == card
        assert [story["state"] for story in detail["stories"]] == ["done·verified"]
        assert detail["run"]["run_id"] == card["run_id"]
        assert (await rig.get(f"/api/prds/PRD-001?run_id={card['run_id']}"))["run"] == detail["run"]


async def test_time_alone_makes_a_run_stalled(log, clock):
    async with serving(log, clock=clock, stalled_after=60) as rig:
        await work(rig)
        clock.advance(59)
        assert (await rig.get("/api/prds/PRD-001"))["prd"]["state"] == "running"
        clock.advance(2)
        assert (await rig.get("/api/prds/PRD-001"))["prd"]["state"] == "stalled"


async def test_two_projects_may_have_a_prd_of_one_name(log):
    async with serving(log) as rig:
        await work(rig, project="shop")
        await work(rig, project="blog")
        await rig.emit("prd.started", "PRD-001", data={"status": "running"}, project=None)
        refusal = await rig.refusal("/api/prds/PRD-001")
        assert (refusal["status"], refusal["code"], refusal["field"]) == (409, "ambiguous_prd", "project")
        assert (await rig.get("/api/prds/PRD-001?project=blog"))["prd"]["project"] == "blog"
        assert (await rig.get("/api/prds/PRD-001?project="))["prd"]["project"] is None
        assert (await rig.get("/api/prds/PRD-001/patches?project=shop"))["patches"]


async def test_ids_that_need_escaping(log):
    async with serving(log) as rig:
        await rig.emit("prd.started", "a/b c%?#é", data={"status": "running"}, project="x/y")
        path = "/api/prds/a%2Fb%20c%25%3F%23%C3%A9"
        from yarl import URL

        assert (await rig.get(URL(path, encoded=True)))["prd"]["prd_id"] == "a/b c%?#é"
        assert (await rig.get(URL(f"{path}/patches?project=x%2Fy", encoded=True)))["patches"]
        await rig.emit("prd.started", "{feature}", data={"status": "running"})
        assert (await rig.get(URL("/api/prds/%7Bfeature%7D", encoded=True)))["prd"]["prd_id"] == "{feature}"


@pytest.mark.parametrize("path", ["/api/prds/NO", "/api/prds/NO/patches", "/api/executions/NO/debug"])
async def test_what_does_not_exist(path):
    async with serving() as rig:
        refusal = await rig.refusal(path)
        assert (refusal["status"], refusal["code"]) == (404, "not_found")


async def test_an_unknown_run(log):
    async with serving(log) as rig:
        await work(rig)
        refusal = await rig.refusal("/api/prds/PRD-001?run_id=none")
        assert (refusal["status"], refusal["field"]) == (404, "run_id")


@pytest.mark.parametrize("path", ["/api/prds?x=1", "/api/prds/P?x=1", "/api/prds/P/patches?x=1"])
async def test_unknown_parameters(path):
    async with serving() as rig:
        refusal = await rig.refusal(path)
        assert (refusal["status"], refusal["field"]) == (400, "x")


async def replayed(rig, prd_id="PRD-001", documents=None, after=None):
    answer = await rig.get(f"/api/prds/{prd_id}/patches" + (f"?after={after}" if after else ""))
    documents = answer.get("documents", documents)
    apply_patches(documents, answer["patches"])
    return documents, answer


async def as_stored(rig, prd_id="PRD-001"):
    everything = await rig.hub.log.entities("")
    return {key: document for key, document in everything.items() if f"/{prd_id}" in key}


async def test_patches_lead_to_the_documents(log, clock):
    async with serving(log, clock=clock) as rig:
        await work(rig)
        await work(rig, "PRD-0012")  # a name that begins like the other
        assert (await rig.get("/api/prds/PRD-001/patches"))["documents"] == {}
        documents, answer = await replayed(rig)
        assert documents == {key: value for key, value in (await as_stored(rig)).items() if "PRD-0012" not in key}
        assert answer["cursor"] == str(rig.hub.state.head_cursor)
        assert {patch["seq"] for patch in answer["patches"]} == {1, 2, 3, 4, 5}


async def test_patches_of_one_run(log, clock):
    async with serving(log, clock=clock) as rig:
        await work(rig)
        await rig.emit("prd.completed", data={"success": True, "status": "completed"}, project="shop")
        await work(rig)
        runs = {run["number"]: run["run_id"] for run in (await rig.get("/api/prds/PRD-001"))["runs"]}
        stored = await as_stored(rig)
        for run_id in runs.values():
            answer = await rig.get(f"/api/prds/PRD-001/patches?run_id={run_id}")
            documents = answer["documents"]
            apply_patches(documents, answer["patches"])
            assert documents == {key: stored[key] for key in stored if run_id in key or key.startswith("prd/")}
            assert len(documents) == 3
        await log.prune(0, 3, 100)
        answer = await rig.get(f"/api/prds/PRD-001/patches?run_id={runs[2]}")
        assert all(runs[1] not in key for key in answer["documents"])
        refusal = await rig.refusal("/api/prds/PRD-001/patches?run_id=no")
        assert (refusal["status"], refusal["field"]) == (404, "run_id")
        # The beginning of a run's name is no run.
        assert (await rig.refusal(f"/api/prds/PRD-001/patches?run_id={runs[1][:-1]}"))["status"] == 404


async def test_patches_go_on_behind_a_cursor(log, clock):
    async with serving(log, clock=clock) as rig:
        await work(rig)
        documents, first = await replayed(rig)
        await rig.emit("prd.completed", data={"success": True, "status": "completed"}, project="shop")
        documents, second = await replayed(rig, documents=documents, after=first["cursor"])
        assert "documents" not in second
        assert {patch["seq"] for patch in second["patches"]} == {6}
        assert documents == await as_stored(rig)


async def test_after_pruning_patches_begin_with_what_the_oldest_event_applies_to(log, clock):
    async with serving(log, clock=clock) as rig:
        await work(rig)
        old = await rig.hub.cursor_at(1)
        await rig.hub.log.prune(0, 2, 100)
        documents, answer = await replayed(rig)
        assert set(answer["documents"]) >= {"prd/shop/PRD-001"}
        assert {patch["seq"] for patch in answer["patches"]} == {4, 5}
        assert documents == await as_stored(rig)
        documents, answer = await replayed(rig, after=old)
        assert answer["reset"]["reason"] == "trimmed"
        assert documents == await as_stored(rig)


async def test_patches_show_what_time_has_done(log, clock):
    async with serving(log, clock=clock, stalled_after=60) as rig:
        await work(rig)
        clock.advance(61)
        _, answer = await replayed(rig)
        assert answer["patches"][-1]["value"] == "stalled"


async def test_a_long_history_is_written_in_pieces(log, clock, monkeypatch):
    from claude_loop.transports import http_prds

    monkeypatch.setattr(http_prds, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(http_prds, "_PAGE_EVENTS", 3)
    async with serving(log, clock=clock) as rig:
        for _ in range(4):
            await work(rig)
            await work(rig, "OTHER")
        documents, _ = await replayed(rig)
        assert documents == await as_stored(rig)

"""The paths of older systems: an execution is a PRD or a run."""

from tests.http_rig import serving
from tests.sse_client import stream


async def begun(rig, prd_id="PRD-001", project="shop", **fields):
    event = await rig.emit("prd.started", prd_id, data={"status": "running"}, project=project, **fields)
    return event.run_id


async def test_the_stream_of_a_prd_begins_at_its_beginning():
    async with serving() as rig:
        await begun(rig)
        await rig.emit(prd_id="OTHER")
        await rig.emit(prd_id=None)
        await rig.emit(prd_id="PRD-001", project="shop")
        async with stream(rig.session, "/api/executions/PRD-001/stream") as reader:
            assert [event["seq"] for event in await reader.events(2)] == [1, 4]
            await rig.emit(prd_id="PRD-001", project="shop")
            assert (await reader.event())["seq"] == 5
        async with stream(rig.session, "/api/executions/PRD-001/stream", from_="now") as reader:
            await reader.next()
            await rig.emit(prd_id="PRD-001", project="shop")
            assert (await reader.event())["seq"] == 6


async def test_the_stream_of_a_run_has_that_run_only():
    async with serving() as rig:
        first = await begun(rig)
        second = await begun(rig)
        assert first != second
        await rig.emit(project="shop")
        async with stream(rig.session, f"/api/executions/{second}/stream") as reader:
            assert [event["seq"] for event in await reader.events(2)] == [2, 3]


async def test_a_stream_may_wait_for_a_prd_that_has_not_begun():
    async with serving() as rig, stream(rig.session, "/api/executions/LATER/stream") as reader:
        await reader.next()
        await rig.emit(prd_id="LATER")
        assert (await reader.event())["prd_id"] == "LATER"


async def test_a_project_narrows_the_stream():
    async with serving() as rig:
        await begun(rig, project="shop")
        await begun(rig, project="blog")
        async with stream(rig.session, "/api/executions/PRD-001/stream", project="blog") as reader:
            assert (await reader.event())["project"] == "blog"


async def test_a_stream_resumes():
    async with serving() as rig:
        await begun(rig)
        await rig.emit(project="shop")
        async with stream(rig.session, "/api/executions/PRD-001/stream") as reader:
            await reader.event()
            last = reader.last_id
        async with stream(rig.session, "/api/executions/PRD-001/stream", last_event_id=last) as reader:
            assert (await reader.event())["seq"] == 2


async def test_debug_shows_state_last_events_readers_and_lag():
    async with serving() as rig:
        run_id = await begun(rig)
        for _ in range(30):
            await rig.emit(project="shop")
        async with stream(rig.session, prd_id="PRD-001") as reader, stream(rig.session, prd_id="OTHER"):
            await reader.next()
            answer = await rig.get("/api/executions/PRD-001/debug")
            assert (answer["execution_id"], answer["kind"], answer["state"]["state"]) == ("PRD-001", "prd", "running")
            assert [event["seq"] for event in answer["events"]] == list(range(31, 11, -1))
            assert [(r["via"], r["prds"], r["lag"]) for r in answer["readers"]] == [("sse", ["PRD-001"], 0)]
            assert answer["lag"] == 0
        by_run = await rig.get(f"/api/executions/{run_id}/debug")
        assert (by_run["kind"], by_run["state"]["run_id"]) == ("run", run_id)


async def test_debug_of_an_ambiguous_prd_asks_for_the_project():
    async with serving() as rig:
        await begun(rig, project="shop")
        await begun(rig, project="blog")
        refusal = await rig.refusal("/api/executions/PRD-001/debug")
        assert (refusal["status"], refusal["code"]) == (409, "ambiguous_prd")
        assert (await rig.get("/api/executions/PRD-001/debug?project=shop"))["state"]["project"] == "shop"

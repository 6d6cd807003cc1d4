"""`GET /api/sessions…` on a real server."""

import aiohttp
import pytest

from tests.live_server import LiveServer

PRD = {"project": "shop", "prd_id": "PRD-1", "session_id": "S1"}


@pytest.fixture
async def server(home):
    async with LiveServer(home) as live:
        yield live


async def tell(server: LiveServer, ids: dict[str, str], *events: tuple[str, dict[str, object]]) -> None:
    for type_, data in events:
        await server.publish(1, type_, data=data, **ids)


async def test_the_whole_of_a_session(server):
    await tell(
        server,
        PRD,
        ("session.started", {"agent": "claude", "reason": "startup"}),
        ("prompt.submitted", {"prompt": "Fix it.\n\nThen test."}),
        ("subagent.started", {"agent_id": "a1", "agent_type": "Explore"}),
        ("tool.started", {"tool": "Read", "call_id": "c1", "summary": "a.py", "agent_id": "a1"}),
        ("tool.started", {"tool": "Bash", "call_id": "c2", "summary": "pytest -q"}),
        ("tool.completed", {"tool": "Read", "call_id": "c1", "agent_id": "a1", "duration_ms": 40}),
        ("tool.failed", {"tool": "Bash", "call_id": "c2", "error": "Exit code 1", "duration_ms": 1200}),
        ("subagent.ended", {"agent_id": "a1"}),
        ("tool.completed", {"tool": "Edit", "call_id": "c3", "duration_ms": 70}),
        ("agent.message", {"message": "Done."}),
        ("agent.idle", {}),
    )
    answer = await server.get("/api/sessions/S1?project=shop")
    assert (answer["session"]["state"], answer["session"]["calls"], answer["omitted"]) == ("idle", 3, False)
    assert [(line["kind"], line["text"]) for line in answer["outline"]] == [
        ("started", "startup"),
        ("prompt", "Fix it.\n\nThen test."),
        ("message", "Done."),
        ("idle", None),
    ]
    calls = [(c["tool"], c["ok"], c["duration_ms"], c["error"], c["agent_id"]) for c in answer["calls"]]
    assert calls == [
        ("Read", True, 40, None, "a1"),
        ("Bash", False, 1200, "Exit code 1", None),
        ("Edit", True, 70, None, None),
    ]
    unseen = answer["calls"][2]
    assert unseen["ended_at"] - unseen["started_at"] == 70
    assert [(s["agent_id"], s["agent_type"], s["ended_at"] is not None) for s in answer["subagents"]] == [
        ("a1", "Explore", True)
    ]


async def test_the_list_and_what_narrows_it(server):
    await tell(server, PRD, ("session.started", {"agent": "claude"}))
    await tell(server, {"project": "lab", "session_id": "S2"}, ("session.started", {"agent": "codex"}))
    await tell(server, PRD | {"session_id": "S3"}, ("session.started", {}), ("session.ended", {}))

    async def listed(query: str) -> list[str]:
        return [session["session_id"] for session in (await server.get(f"/api/sessions{query}"))["sessions"]]

    assert await listed("") == ["S3", "S2", "S1"]
    assert await listed("?prd_id=PRD-1") == ["S3", "S1"]
    assert await listed("?project=shop&prd_id=PRD-1&live=true") == ["S1"]
    assert await listed("?project=lab") == ["S2"]
    assert await listed("?run_id=none") == []


async def test_one_id_in_two_projects(server):
    await tell(server, PRD, ("session.started", {"agent": "claude"}))
    await tell(server, {"project": "lab", "session_id": "S1"}, ("session.started", {"agent": "codex"}))
    assert (await server.get("/api/sessions/S1"))["session"]["agent"] == "codex"
    assert (await server.get("/api/sessions/S1?project=shop"))["session"]["agent"] == "claude"


async def test_a_session_whose_events_were_pruned_is_still_what_the_list_says(server):
    await tell(server, PRD, ("session.started", {"agent": "claude"}))
    await server.publish(1, "log.message", data={"level": "info", "message": "later"})
    await server.hub.log.prune(0, 1, 100)
    answer = await server.get("/api/sessions/S1?project=shop")
    assert (answer["session"]["agent"], answer["outline"]) == ("claude", [])


@pytest.mark.parametrize(("path", "field"), [("/api/sessions/none", "id"), ("/api/sessions?live=maybe", "live")])
async def test_what_is_refused(server, path, field):
    async with aiohttp.ClientSession(server.url) as session, session.get(path) as refused:
        answer = await refused.json()
    assert answer["error"]["field"] == field
    assert answer["error"]["hint"]

"""`POST /api/prds/{id}/archive` and `/forget`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http_rig import TOKEN, Rig, serving

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving() as rig:
        await rig.emit("prd.started", data={"title": "Checkout"}, project="shop")
        yield rig


async def post(rig: Rig, path: str, body: Any, status: int = 200, **headers: str) -> Any:
    async with rig.session.post(f"/api/prds/{path}", json=body, headers=BEARER | headers) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_archive_and_back(rig: Rig):
    assert await post(rig, "PRD-001/archive", {"archived": True}) == {"ok": True, "seq": 2}
    (card,) = (await rig.get("/api/prds"))["prds"]
    assert card["archived_at"] > 0
    assert await post(rig, "PRD-001/archive", {"archived": True, "project": "shop"}) == {"ok": True, "seq": None}
    assert await post(rig, "PRD-001/archive", {"archived": False}) == {"ok": True, "seq": 3}
    assert (await rig.get("/api/prds/PRD-001"))["prd"]["archived_at"] is None


async def test_forget(rig: Rig):
    assert await post(rig, "PRD-001/forget", {"confirm": "PRD-001"}) == {"ok": True, "seq": 2}
    assert (await rig.get("/api/prds"))["prds"] == []
    assert (await rig.refusal("/api/prds/PRD-001"))["code"] == "not_found"
    events = (await rig.get("/api/events"))["events"]
    assert [(event["type"], event["data"]) for event in events] == [
        ("prd.started", {"_forgotten": True}),
        ("prd.forgotten", {}),
    ]
    assert (await post(rig, "PRD-001/forget", {"confirm": "PRD-001"}, 404))["error"]["code"] == "not_found"


async def test_of_several_projects_one_must_be_named(rig: Rig):
    await rig.emit("prd.started", project=None)
    assert (await post(rig, "PRD-001/forget", {"confirm": "PRD-001"}, 409))["error"]["code"] == "ambiguous_prd"
    await post(rig, "PRD-001/forget", {"confirm": "PRD-001", "project": None})
    assert [card["project"] for card in (await rig.get("/api/prds"))["prds"]] == ["shop"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("PRD-001/archive", {}, "archived"),
        ("PRD-001/archive", {"archived": "yes"}, "archived"),
        ("PRD-001/archive", {"archived": True, "x": 1}, "x"),
        ("PRD-001/archive", {"archived": True, "project": 7}, "project"),
        ("PRD-001/archive?x=1", {"archived": True}, "x"),
        ("PRD-001/forget", {}, "confirm"),
        ("PRD-001/forget", {"confirm": "PRD-002"}, "confirm"),
        ("PRD-001/forget", {"confirm": True}, "confirm"),
        ("PRD-001/forget", [], None),
    ],
)
async def test_bad_requests_change_nothing(rig: Rig, path: str, body: Any, field: str | None):
    error = (await post(rig, path, body, 400))["error"]
    assert error.get("field") == field
    assert rig.hub.state.head == 1


async def test_a_body_that_is_no_json(rig: Rig):
    headers = BEARER | {"Content-Type": "application/json"}
    async with rig.session.post("/api/prds/PRD-001/forget", data=b"{", headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "invalid_json"
    async with rig.session.post("/api/prds/PRD-001/forget", data=b"x" * 5000, headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("name", ["archive", "forget"])
async def test_your_own_user_alone_may_not(rig: Rig, name: str):
    body = {"confirm": "PRD-001", "archived": True}
    async with rig.session.post(f"/api/prds/PRD-001/{name}", json=body) as answer:
        assert answer.status == 403
    assert rig.hub.state.head == 1


@pytest.mark.parametrize("type_", ["prd.archived", "prd.unarchived", "prd.forgotten"])
async def test_nobody_else_may_say_so(rig: Rig, type_: str):
    async with rig.session.post("/api/events", json={"type": type_, "prd_id": "PRD-001"}, headers=BEARER) as answer:
        assert answer.status == 422
        error = (await answer.json())["error"]
    assert (error["code"], error["field"]) == ("invalid_event", "type")
    assert "claude-loop forget" in error["hint"]

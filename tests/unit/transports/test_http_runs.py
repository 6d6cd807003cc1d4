"""`GET /api/runs/{run_id}/output` from stored chunks."""

from __future__ import annotations

from typing import Any

import pytest

from claude_loop.transports import http_runs
from tests.http_rig import Rig, serving


async def prints(rig: Rig, number: int, iteration: int | None = 1, run_id: str = "r1", **data: Any) -> None:
    chunk = {"text": f"chunk {number}\n", "iteration": iteration, "offset": number * 10, "bytes": 10, "left_out": 0}
    await rig.emit("output.chunk", run_id=run_id, data=chunk | data)


def texts(page: dict[str, Any]) -> list[str]:
    return [chunk["text"] for chunk in page["chunks"]]


async def test_pages_follow_one_another_also_while_more_comes():
    async with serving() as rig:
        for number in range(5):
            await prints(rig, number)
            await rig.emit("log.message", run_id="r1", data={"level": "info", "message": "no output"})
            await prints(rig, number, run_id="r2")
        first = await rig.get("/api/runs/r1/output?limit=3")
        assert (texts(first), first["more"]) == (["chunk 0\n", "chunk 1\n", "chunk 2\n"], True)
        assert first["chunks"][1] == {
            "seq": 4, "at": first["chunks"][1]["at"], "iteration": 1, "text": "chunk 1\n",
            "offset": 10, "bytes": 10, "left_out": 0,
        }  # fmt: skip
        second = await rig.get(f"/api/runs/r1/output?limit=3&after={first['cursor']}")
        assert (texts(second), second["more"]) == (["chunk 3\n", "chunk 4\n"], False)
        await prints(rig, 5)
        third = await rig.get(f"/api/runs/r1/output?after={second['cursor']}")
        assert texts(third) == ["chunk 5\n"]
        again = await rig.get(f"/api/runs/r1/output?after={third['cursor']}")
        assert (texts(again), again["cursor"]) == ([], third["cursor"])


async def test_one_iteration():
    async with serving() as rig:
        for number in range(9):
            await prints(rig, number, iteration=None if number == 0 else number % 3)
        page = await rig.get("/api/runs/r1/output?iteration=2&limit=2")
        assert (texts(page), page["more"]) == (["chunk 2\n", "chunk 5\n"], True)
        rest = await rig.get(f"/api/runs/r1/output?iteration=2&after={page['cursor']}")
        assert (texts(rest), rest["more"]) == (["chunk 8\n"], False)


async def test_a_run_without_output_has_none():
    async with serving() as rig:
        assert (await rig.get("/api/runs/nobody/output"))["chunks"] == []


async def test_what_somebody_else_published_under_the_type_breaks_nothing():
    async with serving() as rig:
        await rig.emit("output.chunk", run_id="r1", data={"text": 5, "iteration": "x", "offset": -1})
        (chunk,) = (await rig.get("/api/runs/r1/output"))["chunks"]
        assert (chunk["text"], chunk["iteration"], chunk["offset"], chunk["bytes"]) == ("", None, 0, 0)


async def test_one_request_looks_at_a_bounded_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_runs, "_MOST_LOOKED_AT", 4)
    async with serving() as rig:
        for number in range(10):
            await prints(rig, number, iteration=number)
        page = await rig.get("/api/runs/r1/output?iteration=9")
        pages = 1
        while page["more"]:
            page, pages = await rig.get(f"/api/runs/r1/output?iteration=9&after={page['cursor']}"), pages + 1
        assert (texts(page), pages) == (["chunk 9\n"], 3)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "iteration=-1", "iteration=x", "after=x", "before=1"])
async def test_bad_questions_are_named(query: str):
    async with serving() as rig:
        refusal = await rig.refusal(f"/api/runs/r1/output?{query}")
        assert (refusal["status"], refusal["field"]) == (400, query.partition("=")[0])


async def test_a_foreign_cursor_begins_anew_and_says_so():
    async with serving() as rig:
        await prints(rig, 0)
        page = await rig.get(f"/api/runs/r1/output?after={'0' * 16}.1.{'0' * 10}")
        assert page["reset"]["reason"] == "epoch"

"""`GET /api/search` on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.http_rig import serving
from tests.live_server import LiveServer
from tests.support import eventually


@pytest.fixture
async def server(home: Path) -> AsyncIterator[LiveServer]:
    async with LiveServer(home) as server:
        yield server


async def ask(server: LiveServer, query: str, status: int = 200) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/api/search?{query}") as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def publish(server: LiveServer, *events: dict[str, Any]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/api/events", json=list(events)) as answer,
    ):
        assert answer.status == 200, await answer.text()

    async def is_indexed() -> bool:
        found = await ask(server, "q=x")
        return bool(found["indexed_upto"] == found["head"])

    await eventually(is_indexed)


def note(n: int, **fields: Any) -> dict[str, Any]:
    return {"type": "note.made", "data": {"text": f"word number{n}"}, "prd_id": f"P{n % 2}", **fields}


async def test_finds_newest_first_and_pages_to_the_end(server: LiveServer):
    await publish(server, *(note(n) for n in range(10)))
    first = await ask(server, "q=word&limit=4")
    assert [event["seq"] for event in first["events"]] == [10, 9, 8, 7]
    assert first["events"][0]["data"] == {"text": "word number9"}
    assert (first["more"], first["indexed_upto"], first["head"]) == (True, 10, 10)
    rest = await ask(server, f"q=word&limit=100&before={first['cursor']}")
    assert [event["seq"] for event in rest["events"]] == [6, 5, 4, 3, 2, 1]
    assert rest["more"] is False
    beyond = await ask(server, f"q=word&before={rest['cursor']}")
    assert (beyond["events"], beyond["more"]) == ([], False)
    assert [event["seq"] for event in (await ask(server, "q=word&prd_id=P1&type=note.*"))["events"]] == [10, 8, 6, 4, 2]
    assert (await ask(server, "q=word&source=bash"))["events"] == []


async def test_the_index_survives_a_restart(server: LiveServer):
    await publish(server, note(1))
    await server.stop()
    await server.start()

    async def found() -> list[int]:
        return [event["seq"] for event in (await ask(server, "q=number1"))["events"]]

    assert await eventually(found) == [1]


async def test_a_cursor_of_another_log_is_told(server: LiveServer):
    await publish(server, note(1))
    answer = await ask(server, "q=word&before=00112233aabbccdd.7.0123456789")
    assert answer["reset"]["reason"] == "epoch"
    assert len(answer["events"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=", "q"),
        ("q=***", "q"),
        ("q=" + "x" * 201, "q"),
        ("q=" + "+".join("abcdefghijklmnopq"), "q"),
        ("q=a&q=b", "q"),
        ("q=a&limit=0", "limit"),
        ("q=a&before=x", "before"),
        ("q=a&order=asc", "order"),
        ("q=a&type=", "type"),
    ],
)
async def test_bad_requests_name_the_field(server: LiveServer, query: str, field: str):
    error = (await ask(server, query, 400))["error"]
    assert error["field"] == field


@pytest.mark.parametrize(
    "text",
    [
        "NEAR(a b)",
        "a AND",
        "body:x",
        '"',
        "a*b*c*",
        "^a",
        "{a b} : c",
        "a\x00b",
        "'; DROP TABLE",
        "%ed%a0%80",
        "\u202e\ufffd",
    ],
)
async def test_hostile_queries_are_answered(server: LiveServer, text: str):
    await publish(server, note(1))
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/api/search?q={quote(text)}") as answer:
        assert answer.status in (200, 400), await answer.text()


async def test_without_an_index_it_says_so():
    async with serving() as rig:
        refusal = await rig.refusal("/api/search?q=word")
        assert refusal["code"] == "not_supported"
        assert refusal["hint"]

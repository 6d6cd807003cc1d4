"""Every failure over HTTP has the one form, and nothing leaks."""

import asyncio
import json
import unicodedata
from urllib.parse import quote

import pytest
from aiohttp import web
from yarl import URL

from claude_loop.errors import StorageFailed
from claude_loop.transports.gate import PUBLIC
from tests.http_rig import TOKEN, serving
from tests.support import PATIENCE

ERROR_KEYS = {"code", "message", "hint"}


async def test_an_unknown_path():
    async with serving() as rig:
        refusal = await rig.refusal("/api/nothing/here?q=1")
        assert (refusal["status"], refusal["code"]) == (404, "not_found")
        assert "/api/nothing/here" in refusal["message"]
        assert "openapi" in refusal["hint"]


_BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "none"}


async def test_an_unknown_path_in_a_browser_is_a_page_that_leads_on():
    async with serving() as rig:
        url = URL(f"{rig.url}/" + quote("<script>alert(1)</script>\u202e\x1b"), encoded=True)
        async with rig.session.get(url, headers=_BROWSER | {"Sec-Fetch-Mode": "navigate"}) as answer:
            page = await answer.text()
            assert (answer.status, answer.content_type) == (404, "text/html")
            assert answer.headers["Cache-Control"] == "no-store"
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "There is nothing at /&lt;script&gt;alert(1)" in page
        assert '<a href="/">' in page
        assert not [part for part in ("<script", "\u202e", "\x1b") if part in page]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/nothing", {"Accept": "*/*"}),
        ("GET", "/nothing", _BROWSER | {"Sec-Fetch-Mode": "cors"}),
        ("DELETE", "/nothing", _BROWSER),
        ("GET", "/api/prds/NONE", _BROWSER),  # a path that there is: the error of a PRD that there is not
    ],
)
async def test_others_have_json(method, path, headers):
    async with serving() as rig, rig.session.request(method, path, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (404, "application/json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("DELETE", "/api/events", "GET, HEAD, POST"), ("POST", "/health", "GET, HEAD")]
)
async def test_a_method_that_a_path_does_not_have(method, path, allowed):
    async with serving() as rig:
        headers = {"Content-Type": "application/json"}
        async with rig.session.request(method, path, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")
            assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE"])
async def test_a_method_that_no_path_has(method):
    async with serving() as rig, rig.session.request(method, "/api/events") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_without_rights_the_answer_says_how_to_get_them():
    async with serving(auth={"loopback": "token"}) as rig:
        refusal = await rig.refusal("/api/events")
        assert (refusal["status"], refusal["code"]) == (401, "unauthorized")
        answer = await rig.post({"type": "a.b"}, status=401)
        assert set(answer["error"]) == ERROR_KEYS
        assert (await rig.get("/api/events", headers={"Authorization": f"Bearer {TOKEN}"}))["events"] == []
        assert (await rig.get("/health"))["status"] == "healthy"


class Broken:
    """Handlers that fail in every way."""

    async def unexpectedly(self, request):
        raise RuntimeError("a secret detail")

    async def when_begun(self, request):
        return await self._begin(request, RuntimeError("a secret detail"))

    async def deliberately_when_begun(self, request):
        return await self._begin(request, StorageFailed("a disk on fire"))

    async def _begin(self, request, failure):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"events":[')
        raise failure


@pytest.fixture
async def rig(monkeypatch):
    from claude_loop.transports.http import HttpTransport
    from claude_loop.transports.http_endpoint import Endpoint

    broken = Broken()
    extra = [
        Endpoint("GET", f"/{name.replace('_', '-')}", PUBLIC, getattr(broken, name), {})
        for name in ("unexpectedly", "when_begun", "deliberately_when_begun")
    ]
    real = HttpTransport._system_endpoints
    monkeypatch.setattr(HttpTransport, "_system_endpoints", lambda self: (*real(self), *extra))
    async with serving() as running:
        yield running


async def test_a_defect_is_an_error_like_any_other_and_tells_nothing_of_the_inside(rig, capsys):
    refusal = await rig.refusal("/unexpectedly")
    assert (refusal["status"], refusal["code"]) == (500, "internal")
    assert "secret" not in json.dumps(refusal)
    assert "secret detail" in "".join(capsys.readouterr())  # the log has the traceback
    assert (await rig.get("/health"))["status"] == "healthy"


@pytest.mark.parametrize("path", ["/when-begun", "/deliberately-when-begun"])
async def test_an_answer_that_has_begun_is_cut_off_and_not_completed(rig, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\n\r\n".encode())
        text = b""
        try:
            while part := await asyncio.wait_for(reader.read(4096), PATIENCE):
                text += part
        except ConnectionResetError:
            pass
        assert text.count(b"HTTP/1.1") <= 1
        assert b"0\r\n\r\n" not in text
        assert b"secret" not in text
    finally:
        writer.close()


async def test_a_client_that_leaves_while_it_sends_is_no_defect(rig, capsys):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    await writer.drain()
    assert (await rig.get("/health"))["status"] == "healthy"
    writer.close()
    await writer.wait_closed()
    del reader
    for _ in range(20):
        await rig.get("/health")
    assert "failed" not in "".join(capsys.readouterr())


async def test_every_answer_carries_the_headers_of_a_careful_server():
    async with serving() as rig:
        for path in ("/health", "/api/events", "/nothing"):
            async with rig.session.get(path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


_LONG = "x\x1b[31m\x9b\u202e\n" * 300
_QUOTED = quote(_LONG)
_SENT = [
    ("GET", f"/api/{_QUOTED}", {}, None),
    ("GET", f"/api/prds/{_QUOTED}", {}, None),
    ("GET", "/api/%1B%C2%9B", {}, None),
    ("GET", "/api/prds/%1B%C2%9B", {}, None),
    ("GET", f"/api/prds/P?project={_QUOTED}", {}, None),
    ("GET", f"/api/prds/{_QUOTED}/patches", {}, None),
    ("GET", f"/api/executions/{_QUOTED}/debug", {}, None),
    ("GET", f"/api/events?{_QUOTED}=1", {}, None),
    ("GET", f"/api/events?after={_QUOTED}", {}, None),
    ("GET", f"/api/events?order={_QUOTED}", {}, None),
    ("GET", f"/api/events?type={_QUOTED}", {}, None),
    ("GET", f"/api/events/stream?from={_QUOTED}", {}, None),
    ("GET", "/api/events/stream?from=" + quote('{"since": "' + "y" * 3000 + '"}'), {}, None),
    ("GET", "/api/events/stream?from=" + quote('{"' + "y" * 3000 + '": 1}'), {}, None),
    ("GET", "/api/events", {"Host": "y" * 3000}, None),
    ("GET", "/api/events", {"Origin": "http://" + "y" * 3000}, None),
    ("GET", "/api/events", {"Sec-Fetch-Site": "y" * 3000}, None),
    ("POST", "/api/events", {"Content-Type": "y" * 3000}, "{}"),
    ("Y" * 300, "/api/events", {}, None),
    *(
        ("POST", "/api/events", {"Content-Type": "application/json"}, json.dumps(event))
        for event in (
            {"type": _LONG},
            {"type": "a.b", _LONG: 1},
            {"type": "a.b", "prd_id": _LONG},
            {"type": "a.b", "prd_id": [_LONG]},
            {"type": "a.b", "timestamp": _LONG},
            {"type": "a.b", "data": _LONG},
            {"type": "story.started", "story_id": "S", "data": {"status": _LONG}},
            {"type": "story.started", "story_id": "S", "data": {"story_id": _LONG}},
            {"type": "test.run", "story_id": "S", "data": {"passed": 1, "failed": 0, "total": _LONG}},
            {"type": "test.run", "story_id": "S", "data": {"passed": _LONG, "failed": 0}},
            {"type": "commit.created", "story_id": "S", "data": {"commit_hash": _LONG}},
            {"type": "a.b", "data": {_LONG: 2**70}},
            _LONG,
        )
    ),
]


@pytest.mark.parametrize(("method", "path", "headers", "body"), _SENT)
async def test_a_refusal_echoes_little_of_what_was_sent_and_nothing_a_terminal_obeys(method, path, headers, body):
    async with serving() as rig:
        url = URL(rig.url + path, encoded=True)
        async with rig.session.request(method, url, headers=headers, data=body) as answer:
            assert answer.status >= 400
            error = json.loads(await answer.text())["error"]
    for part in error.values():
        assert len(part) <= 500, part
        assert not [c for c in part if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}], part

"""The gate on a real server: what it refuses, whom it recognises, what it adds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from claude_loop.errors import SettingsRefused
from claude_loop.settings import load_settings
from claude_loop.transports.auth import Authenticator, Principal
from claude_loop.transports.gate import PUBLIC, Gate
from tests.guarded_server import SECRET, TOKEN, Answer, Guarded, ask, guarded, read_answer

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def server() -> AsyncIterator[Guarded]:
    async with guarded() as running:
        yield running


async def test_own_user_reads_and_emits_without_a_token(server: Guarded) -> None:
    assert (await ask(server)).json == {"secret": SECRET, "kind": "loopback"}
    assert (await ask(server, "POST", body="{}")).json["kind"] == "loopback"


async def test_own_user_without_a_token_never_controls(server: Guarded) -> None:
    answer = await ask(server, "POST", "/api/control", body="{}")
    assert (answer.status, answer.code) == (403, "forbidden")
    assert (await ask(server, "POST", "/api/control", body="{}", headers=BEARER)).json["kind"] == "token"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9999", "127.8.9.1:80", "[::1]", "[::1]:5"]
)
async def test_loopback_names_are_answered_on_any_port(server: Guarded, host: str) -> None:
    assert (await ask(server, headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:18790",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "a.localhost",
        "localhost.",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "[::]",
        "10.0.0.1",
        "localhost@evil.test",
        "localhost,evil.test",
        "localhost:18790:1",
        "[::1",
        "lo\tcalhost",
    ],
)
async def test_other_names_are_refused_before_any_handler(server: Guarded, host: str) -> None:
    answer = await ask(server, headers={"Host": host, **BEARER})
    assert answer.status in {400, 421}
    assert answer.code in {"host_refused", "invalid_request"}
    assert server.hits == []


async def test_a_request_without_host_is_refused(server: Guarded) -> None:
    answer = await ask(server, headers={"Host": ""})
    assert answer.status in {400, 421}
    assert server.hits == []


async def test_two_hosts_are_refused(server: Guarded) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
    status = await reader.readline()
    writer.close()
    assert status.split()[1] in {b"400", b"421"}
    assert server.hits == []


async def test_allowed_hosts_are_answered() -> None:
    async with guarded(allowed_hosts=("Loop.Example", "2001:db8::1")) as server:
        assert (await ask(server, headers={"Host": "loop.example:7"})).status == 200
        assert (await ask(server, headers={"Host": "[2001:db8::1]:7"})).status == 200
        assert (await ask(server, headers={"Host": "x.loop.example"})).code == "host_refused"


async def test_own_origin_is_this_requests_scheme_host_and_port(server: Guarded) -> None:
    assert (await ask(server, headers={"Origin": f"http://127.0.0.1:{server.port}"})).status == 200
    assert (await ask(server, headers={"Host": "localhost", "Origin": "http://localhost"})).status == 200
    assert (await ask(server, headers={"Host": "localhost", "Origin": "http://localhost:80"})).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.test",
        "http://localhost:{port}",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:{port}.evil.test",
        "http://127.0.0.1:{port}@evil.test",
        "http://127.0.0.1:{port}/",
        "file://",
        "chrome-extension://abcdef",
        "*",
    ],
)
async def test_foreign_origins_are_refused_before_any_handler(server: Guarded, origin: str) -> None:
    answer = await ask(server, headers={"Origin": origin.format(port=server.port), **BEARER})
    assert (answer.status, answer.code) == (403, "origin_refused")
    assert "access-control-allow-origin" not in answer.headers
    assert server.hits == []
    assert server.refused == ["origin_refused"]


async def test_an_allowed_origin_may_call_and_is_named_in_the_answer() -> None:
    async with guarded(allowed_origins=("https://app.example", "http://localhost:5173")) as server:
        headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", **BEARER}
        answer = await ask(server, headers=headers)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        assert (await ask(server, headers={"Origin": "https://app.example:444"})).code == "origin_refused"
        own = await ask(server, headers={"Origin": f"http://127.0.0.1:{server.port}"})
        assert "access-control-allow-origin" not in own.headers
        assert own.headers["vary"] == "Origin"


async def test_preflight_is_answered_for_allowed_origins_alone() -> None:
    async with guarded(allowed_origins=("https://app.example",)) as server:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        answer = await ask(server, "OPTIONS", headers=headers)
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        refused = await ask(server, "OPTIONS", headers={**headers, "Origin": "https://evil.test"})
        assert (refused.status, refused.code) == (403, "origin_refused")
        assert (await ask(server, "OPTIONS")).status == 405
        assert server.hits == []


@pytest.mark.parametrize("setting", [("*",), ("https://*.example",), ("null",), ("app.example",), ("https://a/b",)])
async def test_patterns_are_no_origins(setting: tuple[str, ...]) -> None:
    with pytest.raises(SettingsRefused, match="allowed_origins"):
        async with guarded(allowed_origins=setting):
            pass


@pytest.mark.parametrize("setting", [("*",), ("*.example",), ("a.example:80",), ("http://a.example",), ("a:b",)])
async def test_patterns_are_no_hosts(setting: tuple[str, ...]) -> None:
    with pytest.raises(SettingsRefused, match="allowed_hosts"):
        async with guarded(allowed_hosts=setting):
            pass


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
async def test_what_another_site_started_is_refused(server: Guarded, site: str) -> None:
    answer = await ask(server, headers={"Sec-Fetch-Site": site, **BEARER})
    assert (answer.status, answer.code) == (403, "origin_refused")
    assert server.hits == []


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_what_our_page_or_the_person_started_is_let_through(server: Guarded, site: str) -> None:
    assert (await ask(server, headers={"Sec-Fetch-Site": site})).status == 200


NAVIGATION = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_a_link_elsewhere_opens_pages_and_nothing_else(server: Guarded) -> None:
    assert (await ask(server, path="/", headers=NAVIGATION)).status == 200
    assert (await ask(server, path="/prd/PRD-001", headers=NAVIGATION)).status == 200
    assert (await ask(server, path="/api/events", headers=NAVIGATION)).code == "origin_refused"
    assert (await ask(server, path="/health", headers=NAVIGATION)).code == "origin_refused"
    for change in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Mode": "no-cors"}, {"Sec-Fetch-Dest": ""}):
        assert (await ask(server, path="/", headers={**NAVIGATION, **change})).code == "origin_refused"
    assert (await ask(server, "POST", "/", headers=NAVIGATION, body="{}")).code == "origin_refused"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
)
async def test_writes_are_json(server: Guarded, content_type: str) -> None:
    answer = await ask(server, "POST", body="{}", headers={"Content-Type": content_type, **BEARER})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert server.hits == []


async def test_writes_without_a_type_are_refused(server: Guarded) -> None:
    answer = await ask(server, "POST", body="{}", headers={"Content-Type": ""})
    assert answer.status == 415
    assert "does not say" in answer.json["error"]["message"]
    assert (await ask(server, "POST", headers={"Content-Length": "0"})).status == 415


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/x-ndjson"]
)
async def test_json_and_ndjson_are_taken(server: Guarded, content_type: str) -> None:
    assert (await ask(server, "POST", body="{}", headers={"Content-Type": content_type})).status == 200


async def test_delete_needs_no_body(server: Guarded) -> None:
    assert (await ask(server, "DELETE", headers=BEARER)).status == 200
    assert (await ask(server, "DELETE", body="x", headers={"Content-Type": "text/plain", **BEARER})).status == 415


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_other_methods_are_refused_even_where_a_route_has_them(server: Guarded, method: str) -> None:
    answer = await ask(server, method, "/odd", headers=BEARER)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert server.hits == []


async def test_a_post_where_nothing_is_taken_is_told_so_and_not_of_its_type(server: Guarded) -> None:
    answer = await ask(server, "POST", "/health", headers={"Content-Length": "0"})
    assert (answer.status, answer.headers["allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "PROPFIND"])
async def test_of_a_method_that_a_path_does_not_have_the_router_tells_those_there_are(
    server: Guarded, method: str
) -> None:
    answer = await ask(server, method, body="{}", headers=BEARER)
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE,GET,HEAD,POST")
    assert server.hits == []


async def test_head_needs_what_get_needs() -> None:
    async with guarded(auth={"loopback": "token"}) as server:
        assert (await ask(server, "HEAD")).status == 401
        assert (await ask(server, "HEAD", headers=BEARER)).status == 200


async def test_a_declared_length_over_the_limit_is_refused_at_once(server: Guarded) -> None:
    answer = await ask(server, "POST", body="{}", headers={"Content-Length": "999999999999"})
    assert (answer.status, answer.code) == (413, "too_large")


@pytest.mark.parametrize("token", [TOKEN[:-1], TOKEN + "x", "", "ü", TOKEN.upper()])
async def test_a_wrong_token_is_refused_even_from_our_own_user(server: Guarded, token: str) -> None:
    answer = await ask(server, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.body.decode()


async def test_other_schemes_are_not_ours_to_judge(server: Guarded) -> None:
    assert (await ask(server, headers={"Authorization": "Basic eDp5"})).json["kind"] == "loopback"


async def test_token_setting_closes_loopback_but_not_the_page() -> None:
    async with guarded(auth={"loopback": "token"}, token_hint="curl like this") as server:
        answer = await ask(server)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.json["error"]["hint"] == "curl like this"
        assert (await ask(server, path="/")).status == 200
        assert (await ask(server, path="/health")).json["kind"] == "anonymous"
        assert (await ask(server, headers=BEARER)).json["kind"] == "token"


async def test_open_setting_gives_emit_and_read() -> None:
    async with guarded(auth={"loopback": "open"}) as server:
        assert (await ask(server, "POST", body="{}")).json["kind"] == "open"
        refused = await ask(server, "POST", "/api/control", body="{}")
        assert refused.code == "forbidden"
        assert "`claude-loop token create --scope control`" in refused.json["error"]["hint"]


async def test_the_unix_socket_gives_everything_whatever_the_host(home: Path) -> None:
    home.mkdir(parents=True)
    path = home / "sock"
    async with guarded(unix_socket=path) as server:
        answer = await ask(server, "POST", "/api/control", unix=path, body="{}", headers={"Host": "anything"})
        assert answer.json["kind"] == "socket"
        assert (await ask(server, unix=path, headers={"Authorization": "Bearer no"})).status == 401
        assert (await ask(server, unix=path, headers={"Origin": "http://evil.test"})).code == "origin_refused"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "x-forwarded-host"])
async def test_a_forwarded_request_is_not_believed_to_be_our_own(server: Guarded, header: str) -> None:
    assert (await ask(server, headers={header: "127.0.0.1"})).status == 401
    assert (await ask(server, headers={header: "127.0.0.1", **BEARER})).json["kind"] == "token"


async def test_forwarded_headers_do_not_reach_handlers(server: Guarded) -> None:
    sent = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test", "X-Real-IP": "1.2.3.4", "X-Mine": "kept"}
    seen = (await ask(server, path="/headers", headers=sent)).json
    assert seen["x-mine"] == "kept"
    assert not {"x-forwarded-proto", "x-forwarded-host", "x-real-ip"} & set(seen)


async def test_a_body_survives_the_stripping(server: Guarded) -> None:
    headers = {"X-Forwarded-For": "1.2.3.4", **BEARER}
    assert (await ask(server, "POST", body='{"a": 1}', headers=headers)).json["kind"] == "token"


async def test_forwarded_headers_do_not_change_the_origin(server: Guarded) -> None:
    headers = {"X-Forwarded-Proto": "https", "Origin": f"https://127.0.0.1:{server.port}", **BEARER}
    assert (await ask(server, headers=headers)).code == "origin_refused"


async def test_behind_a_proxy_loopback_is_nobody_and_the_scheme_is_the_proxys() -> None:
    async with guarded(
        insecure_behind_proxy=True, allowed_hosts=("loop.example",), auth={"loopback": "open"}
    ) as server:
        assert (await ask(server)).code == "unauthorized"
        headers = {"Host": "loop.example", "Origin": "https://loop.example", "X-Forwarded-Proto": "https", **BEARER}
        assert (await ask(server, headers=headers)).json["kind"] == "token"
        assert (await ask(server, headers={**headers, "Origin": "http://loop.example"})).code == "origin_refused"
        assert "x-forwarded-proto" in (await ask(server, path="/headers", headers=headers)).json


async def test_every_answer_carries_the_security_headers(server: Guarded) -> None:
    answers: list[Answer] = [
        await ask(server, path=path, headers=headers)
        for path, headers in (
            ("/", {}),
            ("/api/events", {}),
            ("/api/events/stream", {}),
            ("/nowhere", {}),
            ("/api/events", {"Host": "evil.test"}),
        )
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["server"] == "claude-loop"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    page = answers[0].headers["content-security-policy"]
    assert f"connect-src 'self' ws://127.0.0.1:{server.port};" in page
    assert "script-src 'self';" in page


async def test_a_failing_handler_is_answered_without_details(server: Guarded) -> None:
    answer = await ask(server, path="/fail")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret detail" not in answer.body


async def test_a_route_that_does_not_say_what_it_needs_stops_the_start() -> None:
    settings = load_settings(port=0)
    gate = Gate(Authenticator(TOKEN, session_of=lambda _: None), settings, {"GET /known": PUBLIC})
    app = web.Application()
    gate.install(app)
    app.router.add_get("/known", _nothing)
    app.router.add_post("/forgotten", _nothing)
    runner = web.AppRunner(app)
    with pytest.raises(SettingsRefused, match="POST /forgotten"):
        await runner.setup()
    await runner.cleanup()


async def _nothing(request: web.Request) -> web.Response:
    return web.Response()


async def test_one_way_in_then_another_on_one_connection(server: Guarded) -> None:
    """The connection is asked about once; each request still shows its own credentials."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    kinds = []
    for extra in ("", f"Authorization: Bearer {TOKEN}\r\n", ""):
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())
        kinds.append((await read_answer(reader)).json["kind"])
    writer.close()
    assert kinds == ["loopback", "token", "loopback"]


async def test_a_strangers_slow_body_is_cut_off() -> None:
    async with guarded(auth={"loopback": "token"}, limits={"handshake_seconds": 0.3}) as server:
        answer = await ask(server, "POST", "/stranger", body="", headers={"Content-Length": "10"})
        assert (answer.status, answer.code) == (408, "request_timeout")


def test_two_browser_sessions_are_two_principals() -> None:
    scopes = frozenset({"read"})
    assert Principal("browser", scopes, "a") != Principal("browser", scopes, "b")  # type: ignore[arg-type]

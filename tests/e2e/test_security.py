"""The way in, tried for real: by web pages of other origins in Chromium, and by another user of this machine."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import web

from claude_loop.clock import SystemClock
from claude_loop.settings import load_settings
from claude_loop.transports.auth import Authenticator, Principal
from claude_loop.transports.gate import principal_of
from claude_loop.transports.peer import Peer
from claude_loop.transports.token_file import ensure_token, read_token
from claude_loop.websocket_server import ClaudeLoopWebSocketServer
from tests.guarded_server import SECRET, TOKEN, Guarded, ask, guarded
from tests.requirements import find_chromium

OTHER_UID = 12_345


@asynccontextmanager
async def server(**settings: Any) -> AsyncIterator[Guarded]:
    """The guarded server with Socket.IO, whose connect handler asks for a token where the connection says nothing."""
    sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins=[])

    def opener(sid: str) -> Principal | None:
        environ = sio.environ.get(sid)
        return None if environ is None else principal_of(environ["aiohttp.request"])

    async with guarded(engine=sio, handshake_principal=opener, **settings) as running:
        authenticator = Authenticator(TOKEN, session_of=running.sessions.principal_of)

        async def connect(sid: str, environ: dict[str, Any], auth: object = None) -> None:
            principal = authenticator.from_socketio_auth(auth, principal_of(environ["aiohttp.request"]))
            if principal is None:
                raise socketio.exceptions.ConnectionRefusedError("unauthorized")
            running.hits.append(("POST socket.io connect", principal.kind))

        sio.on("connect", connect)
        yield running
        await sio.shutdown()


# -- web pages ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser in which evil.test is this machine, so that nothing but the server stands in a page's way."""
    from playwright.async_api import async_playwright

    arguments = ["--no-sandbox", "--host-resolver-rules=MAP evil.test 127.0.0.1"]
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(find_chromium()), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def hostile_site(html: str) -> AsyncIterator[int]:
    """A web server of somebody else's; its port."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.port
    finally:
        await runner.cleanup()


# Everything a page can do to reach a server, each attempt answering what it got.
ATTACKS = """
async function attack(base) {
  const text = async (url, options) => { const r = await fetch(url, options); return r.type + ":" + await r.text(); };
  const json = { "Content-Type": "application/json" };
  const eventually = (start) => new Promise((done) => { start(done); setTimeout(() => done("nothing"), 1500); });
  const element = (name, set) => eventually((done) => {
    const node = document.createElement(name);
    node.onload = () => done("loaded"); node.onerror = () => done("error");
    set(node); document.body.append(node);
  });
  const attempts = {
    read: () => text(base + "/api/events"),
    read_opaque: () => text(base + "/api/events", { mode: "no-cors" }),
    read_with_header: () => text(base + "/api/events", { headers: { Authorization: "Bearer x" } }),
    emit_text: () => text(base + "/api/events", { method: "POST", mode: "no-cors", body: '{"type":"a.b"}' }),
    emit_json: () => text(base + "/api/events", { method: "POST", headers: json, body: "{}" }),
    emit_nothing: () => text(base + "/api/events", { method: "POST", mode: "no-cors" }),
    control: () => text(base + "/api/control", { method: "POST", headers: json, body: "{}" }),
    remove: () => text(base + "/api/events", { method: "DELETE" }),
    beacon: async () => String(navigator.sendBeacon(base + "/api/events", "{}")) && "sent",
    stream: () => eventually((done) => {
      const source = new EventSource(base + "/api/events/stream");
      source.onmessage = (e) => { source.close(); done(e.data); }; source.onerror = () => { source.close(); done("error"); };
    }),
    websocket: () => eventually((done) => {
      const socket = new WebSocket(base.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket");
      socket.onmessage = (e) => done(e.data); socket.onerror = () => done("error");
    }),
    polling: () => text(base + "/socket.io/?EIO=4&transport=polling"),
    jsonp: () => element("script", (n) => { n.src = base + "/socket.io/?EIO=4&transport=polling&j=0"; }),
    script: () => element("script", (n) => { n.src = base + "/api/events"; }),
    image: () => element("img", (n) => { n.src = base + "/api/events"; }),
    style: () => element("link", (n) => { n.rel = "stylesheet"; n.href = base + "/api/events"; }),
    frame: () => element("iframe", (n) => { n.src = base + "/"; }),
    form: () => eventually((done) => {
      const frame = document.createElement("iframe"); frame.name = "target"; document.body.append(frame);
      const form = document.createElement("form"); form.target = "target"; form.method = "POST";
      form.enctype = "text/plain"; form.action = base + "/api/events";
      const field = document.createElement("input"); field.name = '{"type":"a.b","x":"'; field.value = '"}';
      form.append(field); document.body.append(form);
      setTimeout(() => { frame.onload = () => done("answered"); form.submit(); }, 50);
    }),
  };
  const results = {};
  await Promise.all(Object.entries(attempts).map(async ([name, run]) => {
    try { results[name] = await run(); } catch (e) { results[name] = "failed: " + e.message; }
  }));
  return results;
}
"""

HOSTILE = f"<!doctype html><title>hostile</title><body><script>{ATTACKS}</script>"


@pytest.mark.requires("chromium")
async def test_pages_of_other_origins_neither_read_nor_write() -> None:
    async with server() as running, hostile_site(HOSTILE) as port, chromium() as browser:
        for theirs, ours in (("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("evil.test", "localhost")):
            page = await browser.new_page()
            await page.goto(f"http://{theirs}:{port}")
            results = await page.evaluate("(base) => attack(base)", f"http://{ours}:{running.port}")
            assert_nothing_got_through(running, results, f"{theirs} → {ours}")
            await page.close()
        assert "origin_refused" in running.refused, "the attempts did arrive"


@pytest.mark.requires("chromium")
async def test_a_page_without_an_origin_neither_reads_nor_writes() -> None:
    """A sandboxed frame sends `Origin: null`."""
    async with server() as running, hostile_site(HOSTILE) as port, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{port}")
        await page.evaluate(
            """(html) => { const frame = document.createElement("iframe"); frame.sandbox = "allow-scripts allow-forms";
               frame.srcdoc = html; document.body.append(frame); return new Promise((d) => { frame.onload = d; }) && null; }""",
            HOSTILE,
        )
        frame = page.frames[-1]
        await frame.wait_for_function("typeof attack === 'function'")
        results = await frame.evaluate("(base) => attack(base)", running.url)
        assert_nothing_got_through(running, results, "null")


@pytest.mark.requires("chromium")
async def test_a_rebound_name_neither_reads_nor_writes() -> None:
    """The page came from its own server at this port; now its name leads here, and everything is same-origin to it."""
    async with chromium() as browser:
        page = await browser.new_page()
        async with hostile_site(HOSTILE) as port:
            base = f"http://evil.test:{port}"
            await page.goto(base)
        async with server(port=port) as running:
            results = await page.evaluate("(base) => attack(base)", base)
            assert_nothing_got_through(running, results, "rebound", tells="host_refused")
            assert running.refused.count("host_refused") > 10, "the attempts did arrive"
            answer = await page.goto(f"{base}/")
            assert answer.status == 421


def assert_nothing_got_through(running: Guarded, results: dict[str, str], who: str, tells: str | None = None) -> None:
    assert running.hits == [], (who, results)
    assert_harmless(results, who, tells)


def assert_harmless(results: dict[str, str], who: str, tells: str | None = None) -> None:
    assert len(results) == 18, who
    assert SECRET not in json.dumps(results), (who, results)
    for name, result in results.items():
        harmless = result.startswith("failed:") or result in {
            "error",
            "sent",
            "nothing",
            "opaque:",
            "answered",
            "loaded",
        }
        # To a rebound page the refusal is same-origin, so it can be read; it says nothing of value.
        assert harmless or (tells is not None and tells in result), (who, name, result)


@pytest.mark.requires("chromium")
async def test_a_link_on_another_site_opens_the_page() -> None:
    async with server() as running, hostile_site("<a id=link href=''>look</a>") as port, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://evil.test:{port}")
        await page.evaluate("(url) => { document.getElementById('link').href = url; }", f"{running.url}/prd/PRD-001")
        async with page.expect_navigation():
            await page.click("#link")
        assert await page.title() == "page"
        assert running.hits == [("GET /prd/PRD-001", "loopback")]
        await page.reload()
        assert await page.title() == "page"


OWN_PAGE = """
const results = {};
const json = { "Content-Type": "application/json" };
async function visit(code) {
  results.read = (await (await fetch("/api/events")).json()).kind;
  results.emit = (await (await fetch("/api/events", { method: "POST", headers: json, body: "{}" })).json()).kind;
  results.control = (await fetch("/api/control", { method: "POST", headers: json, body: "{}" })).status;
  const opened = await (await fetch("/api/session", { method: "POST", headers: json, body: JSON.stringify({ code }) })).json();
  const mine = { ...json, Authorization: "Bearer " + opened.token };
  results.session = (await (await fetch("/api/control", { method: "POST", headers: mine, body: "{}" })).json()).kind;
  results.stream = await new Promise((done, fail) => {
    const source = new EventSource("/api/events/stream");
    source.onmessage = (e) => { source.close(); done(e.data); }; source.onerror = fail;
  });
  results.socket = await new Promise((done, fail) => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket");
    let opened_packet = false;
    socket.onmessage = (e) => {
      if (!opened_packet) { opened_packet = true; socket.send('40{"token":"' + opened.token + '"}'); }
      else { socket.close(); done(e.data.slice(0, 2)); }
    };
    socket.onerror = fail;
  });
  results.elsewhere = await fetch("http://evil.test:1/").then(() => "let out", () => "kept in");
  results.inline = String(window.inline);
  return results;
}
"""


@pytest.mark.requires("chromium")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_our_own_page_reads_emits_and_with_a_code_controls(name: str) -> None:
    async with server() as running, chromium() as browser:
        running.script = OWN_PAGE
        page = await browser.new_page()
        violations: list[str] = []
        page.on("console", lambda message: violations.append(message.text))
        await page.goto(f"http://{name}:{running.port}/#{running.sessions.new_code()}")
        results = await page.evaluate("() => visit(location.hash.slice(1))")
        assert results == {
            "read": "loopback",
            "emit": "loopback",
            "control": 403,
            "session": "browser",
            "stream": SECRET,
            "socket": "40",
            "elsewhere": "kept in",
            "inline": "undefined",
        }
        assert ("POST socket.io connect", "browser") in running.hits
        assert any("Content Security Policy" in text for text in violations), violations


# -- the whole server --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def whole_server(**settings: Any) -> AsyncIterator[ClaudeLoopWebSocketServer]:
    running = ClaudeLoopWebSocketServer(port=0, settings=load_settings(**settings))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def test_strangers_get_no_data_from_any_route(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with whole_server(auth={"loopback": "token"}) as running, aiohttp.ClientSession(running.url) as client:
        await running.broadcast("story.started", {"prd_id": "PRD-001", "story_id": "US-001"})
        token = read_token(home / "token")
        async with client.get("/api/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        given: set[str] = set()
        for path, method in [(path, method) for path, methods in paths.items() for method in methods]:
            for headers in ({}, {"Authorization": f"Bearer {token}x"}):
                json_type = {"Content-Type": "application/json"}
                async with client.request(
                    method, path.replace("{id}", "PRD-001"), headers={**headers, **json_type}
                ) as answer:
                    if answer.status != 401:
                        given.add(path)
                        assert "US-001" not in await answer.text()
        assert given == {"/health", "/api/health", "/api/openapi.json"}
        async with client.get("/api/events", headers={"Authorization": f"Bearer {token}"}) as answer:
            assert "US-001" in await answer.text()
        assert token not in "".join(capfd.readouterr())


@pytest.mark.requires("chromium")
async def test_the_whole_server_withstands_a_page_of_another_origin() -> None:
    async with whole_server() as running, hostile_site(HOSTILE) as port, chromium() as browser:
        await running.broadcast("log.message", {"prd_id": "PRD-001", "level": "info", "message": SECRET})
        page = await browser.new_page()
        await page.goto(f"http://localhost:{port}")
        results = await page.evaluate("(base) => attack(base)", running.url)
        assert_harmless(results, "the whole server")
        async with aiohttp.ClientSession(running.url) as client, client.get("/api/events") as answer:
            events = (await answer.json())["events"]
        assert [event["type"] for event in events] == ["log.message"]
        assert len(running.clients) == 0


# -- another user of this machine --------------------------------------------------------------------------------------


async def curl(*arguments: str, uid: int = OTHER_UID) -> tuple[int, str]:
    """Status and body of what curl gets as ``uid``; status 0 when it got no answer."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-q", "-sS", "-m", "10", "-w", "\n%{http_code}", *arguments,
        user=uid, group=uid, extra_groups=[], cwd="/", env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("\n")
    return int(status), body


JSON = ("-H", "Content-Type: application/json")


@pytest.mark.requires("linux", "root", "curl")
async def test_another_user_sees_the_page_and_nothing_else(home: Path) -> None:
    home.mkdir(parents=True, mode=0o700)
    ensure_token(home / "token", SystemClock())
    async with server(unix_socket=home / "sock") as running:
        for base in (f"http://127.0.0.1:{running.port}", f"http://localhost:{running.port}"):
            assert (await curl(f"{base}/"))[0] == 200
            status, body = await curl(f"{base}/api/events")
            assert (status, json.loads(body)["error"]["code"]) == (401, "unauthorized")
            assert (await curl(f"{base}/api/events/stream"))[0] == 401
            assert (await curl(f"{base}/api/events", *JSON, "-d", "{}"))[0] == 401
            assert (await curl(f"{base}/api/control", *JSON, "-d", "{}"))[0] == 401
            assert (await curl(f"{base}/api/session/code", *JSON, "-d", "{}"))[0] == 401
        assert (await curl("--unix-socket", str(home / "sock"), "http://x/api/events"))[0] == 0
        assert (await curl(f"file://{home / 'token'}"))[1] == ""
        assert running.data_hits == []
        assert (await curl("-H", f"Authorization: Bearer {TOKEN}", f"{running.url}/api/events"))[0] == 200
        assert (await curl(f"{running.url}/api/events", uid=os.geteuid()))[0] == 200


@pytest.mark.requires("linux", "root", "curl")
async def test_another_user_gets_no_further_than_the_socketio_handshake() -> None:
    async with server() as running:
        polling = f"{running.url}/socket.io/?EIO=4&transport=polling"
        text = ("-H", "Content-Type: text/plain;charset=UTF-8")
        status, body = await curl(polling)
        assert status == 200
        sid = json.loads(body[1:])["sid"]
        assert (await curl(f"{polling}&sid={sid}", *text, "-d", "40"))[0] == 200
        assert (await curl(f"{polling}&sid={sid}"))[1].startswith("44"), "Socket.IO's refusal to connect"
        status, body = await curl(polling)
        sid = json.loads(body[1:])["sid"]
        await curl(f"{polling}&sid={sid}", *text, "-d", f'40{{"token":"{TOKEN}"}}')
        assert (await curl(f"{polling}&sid={sid}"))[1].startswith("40"), "with the token it is welcome"


@pytest.mark.requires("linux", "root", "curl")
async def test_another_user_cannot_take_over_a_session_whose_id_leaked() -> None:
    async with server() as running:
        polling = f"{running.url}/socket.io/?EIO=4&transport=polling"
        ours = (await ask(running, path="/socket.io/?EIO=4&transport=polling")).body.decode()
        sid = json.loads(ours[1:])["sid"]
        assert (await curl(f"{polling}&sid={sid}"))[0] == 403
        assert (await curl(f"{polling}&sid={sid}", "-H", "Content-Type: text/plain", "-d", "40"))[0] == 403
        upgrade = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13")
        key = ("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        url = f"{running.url}/socket.io/?EIO=4&transport=websocket&sid={sid}"
        assert (await curl(url, "--http1.1", *upgrade, *key))[0] == 403


@pytest.mark.requires("linux", "root", "curl")
async def test_a_code_seen_in_a_command_line_is_of_no_use_to_another_user() -> None:
    async with server() as running:
        body = json.dumps({"code": running.sessions.new_code()})
        assert (await curl(f"{running.url}/api/session", *JSON, "-d", body))[0] == 401
        code = running.sessions.new_code()
        assert (await curl(f"{running.url}/api/session", *JSON, "-d", json.dumps({"code": code}), uid=os.geteuid()))[
            0
        ] == 200


@pytest.mark.requires("linux", "root", "curl")
async def test_guesses_of_another_user_do_not_shut_out_the_owner() -> None:
    async with server() as running:
        wrong = json.dumps({"code": "wrong"})
        statuses = [(await curl(f"{running.url}/api/session", *JSON, "-d", wrong))[0] for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        assert running.sessions.redeem(running.sessions.new_code(), Peer("loopback", os.geteuid()))


@pytest.mark.requires("linux", "root", "curl")
async def test_open_loopback_is_an_explicit_choice() -> None:
    async with server(auth={"loopback": "open"}) as running:
        assert (await curl(f"{running.url}/api/events"))[0] == 200
        assert (await curl(f"{running.url}/api/control", *JSON, "-d", "{}"))[0] == 403

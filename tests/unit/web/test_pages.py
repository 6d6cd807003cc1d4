"""The static pages: what is served, to whom, and that a strict policy does not break them."""

import re
from html.parser import HTMLParser

import pytest
from aiohttp import ClientSession, web

from claude_loop import resources
from claude_loop.settings import Settings
from claude_loop.transports.auth import Authenticator
from claude_loop.transports.gate import PAGE, PUBLIC, Gate
from claude_loop.transports.listeners import Listeners
from claude_loop.web.pages import WebPages
from tests.support import ROOT

VIEWS = ["/", "/prd/SHOP-7", "/prd/a%2Fb", "/events", "/system"]


@pytest.fixture
def built(tmp_path):
    """A page as Vite leaves it, but short."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-Ab1.js").write_text("export {};" * 500)
    (tmp_path / "assets" / "index-Cd2.css").write_text("body{margin:0}")
    (tmp_path / "built-from").write_text("digest")
    (tmp_path / "export.html").write_text("for `claude-loop export` alone")
    (tmp_path / "index.html").write_text(
        '<!doctype html><script type="module" src="/assets/index-Ab1.js"></script>'
        '<link rel="stylesheet" href="/assets/index-Cd2.css"><link rel="icon" href="/icon.svg">'
    )
    return tmp_path


@pytest.fixture
async def session(built):
    async for client in serve(WebPages(built=built)):
        yield client


@pytest.fixture
async def without_a_page(tmp_path):
    async for client in serve(WebPages(built=tmp_path / "nowhere")):
        yield client


async def serve(pages):
    settings = Settings(port=0, auth={"loopback": "token"})
    app = web.Application()
    pages.attach(app)
    Gate(Authenticator("t" * 43, session_of=lambda _token: None, loopback="token"), settings, pages.access()).install(
        app
    )
    listeners = Listeners(settings)
    listeners.bind()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await listeners.serve(runner.server)
    async with ClientSession(listeners.url) as client:
        yield client
    listeners.close()
    await runner.cleanup()


class Page(HTMLParser):
    """Collects what a page loads, and what a strict policy would forbid."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.forbidden, self._script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("style", "base", "iframe", "object", "embed"):
            self.forbidden.append(tag)
        self.forbidden += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "script":
            self._script = "src" not in given
        for name in ("src", "href"):
            if tag in ("script", "link", "img", "a") and given.get(name):
                self.loaded.append(given[name])

    def handle_data(self, data):
        if self._script and data.strip():
            self.forbidden.append("inline script")

    def handle_endtag(self, tag):
        self._script = False


@pytest.mark.parametrize("path", [*VIEWS, "/examples/websocket_client.html", "/examples/"])
async def test_a_page_needs_no_rights_holds_no_data_and_keeps_to_the_policy(session, path):
    async with session.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = answer.headers["Content-Security-Policy"]
        text = await answer.text()
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    page = Page(text)
    assert page.forbidden == []
    assert any(url.endswith(".js") for url in page.loaded)
    base = path.rpartition("/")[0]
    for url in page.loaded:
        assert not re.match(r"[a-z]+:|//", url), "nothing comes from elsewhere"
        async with session.get(url if url.startswith("/") else f"{base}/{url}") as part:
            assert part.status == 200, url
            assert part.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "type_"),
    [
        ("/assets/index-Ab1.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/style.css", "text/css"),
        ("/examples/websocket_client.js", "text/javascript"),
    ],
)
async def test_parts_of_pages_have_their_types(session, path, type_):
    async with session.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, type_)
        assert ("immutable" in answer.headers["Cache-Control"]) == path.startswith("/assets/")


async def test_a_page_is_asked_for_again_and_a_large_part_comes_packed(session):
    async with session.get("/events") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
    for accepted, encoding in (("gzip, br", "gzip"), ("identity", None)):
        async with session.get("/assets/index-Ab1.js", headers={"Accept-Encoding": accepted}) as answer:
            assert answer.headers.get("Content-Encoding") == encoding
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert await answer.text() == "export {};" * 500


@pytest.mark.parametrize("path", VIEWS)
async def test_without_a_built_page_every_view_says_what_to_do(without_a_page, path):
    async with without_a_page.get(path) as answer:
        assert answer.status == 200
        assert "bin/build_page.py --again" in await answer.text()
    async with without_a_page.get("/style.css") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/index.htm",
        "/index.html",
        "/unbuilt.html",
        "/export.html",
        "/built-from",
        "/assets/",
        "/assets/../index.html",
        "/prd/",
        "/pages.py",
        "/examples/prd_loop.sh",
        "/../pages.py",
        "/%2e%2e/pages.py",
        "/examples/..%2fpyproject.toml",
    ],
)
async def test_nothing_else_is_served(session, path):
    from yarl import URL

    async with session.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404


def test_pages_may_be_opened_from_elsewhere_and_their_parts_may_not(built):
    access = WebPages(built=built).access()
    for path in ("/", "/prd/{prd_id}", "/events", "/system", "/examples/websocket_client.html"):
        assert access[f"GET {path}"] is PAGE
    assert access["GET /assets/index-Ab1.js"] is PUBLIC


async def test_a_link_from_another_site_opens_the_page_but_loads_no_script_into_itself(session):
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    async with session.get("/", headers=navigation) as answer:
        assert answer.status == 200
    script = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    async with session.get("/assets/index-Ab1.js", headers=script) as answer:
        assert answer.status == 403


def test_scripts_put_event_text_in_as_text():
    ours = [path for path in (ROOT / "web" / "src").rglob("*.*") if path.suffix in {".svelte", ".ts"}]
    assert ours
    for file in [*resources.examples().glob("*.js"), *ours]:
        text = file.read_text()
        for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "{@html"):
            assert risky not in text, (file, risky)

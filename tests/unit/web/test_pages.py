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


@pytest.fixture
async def session():
    pages, settings = WebPages(), Settings(port=0, auth={"loopback": "token"})
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


@pytest.mark.parametrize("path", ["/", "/examples/websocket_client.html"])
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
    [("/app.js", "text/javascript"), ("/style.css", "text/css"), ("/examples/websocket_client.js", "text/javascript")],
)
async def test_parts_of_pages_have_their_types(session, path, type_):
    async with session.get(path) as answer:
        assert (answer.status, answer.content_type) == (200, type_)
        assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/index.htm",
        "/pages.py",
        "/examples/prd_loop.sh",
        "/examples/",
        "/../pages.py",
        "/%2e%2e/pages.py",
        "/examples/..%2fpyproject.toml",
    ],
)
async def test_nothing_else_is_served(session, path):
    from yarl import URL

    async with session.get(URL(path, encoded=True)) as answer:
        assert answer.status == 404


def test_pages_may_be_opened_from_elsewhere_and_their_parts_may_not():
    access = WebPages().access()
    assert access["GET /"] is PAGE
    assert access["GET /examples/websocket_client.html"] is PAGE
    assert access["GET /app.js"] is PUBLIC


async def test_a_link_from_another_site_opens_the_page_but_loads_no_script_into_itself(session):
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    async with session.get("/", headers=navigation) as answer:
        assert answer.status == 200
    script = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
    async with session.get("/app.js", headers=script) as answer:
        assert answer.status == 403


def test_scripts_put_event_text_in_as_text():
    for file in [*resources.examples().glob("*.js"), *WebPages().__class__.__init__.__defaults__[0].glob("*.js")]:
        text = file.read_text()
        assert "textContent" in text
        for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert risky not in text, (file, risky)

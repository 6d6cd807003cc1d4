"""The pages: read once from the package, served from memory. They hold no data; their scripts ask for it."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from claude_loop import resources
from claude_loop.transports.gate import PAGE, PUBLIC, Access

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
# Built from `web/` by `bin/build_page.py`; missing in a clone where it could not be built.
_BUILT = _HERE / "dist"
# All answer the monitor, which reads the address itself: each view can be linked to.
_VIEWS = ("/", "/prd/{prd_id:.+}", "/session/{session_id:.+}", "/events", "/system")
_ASSETS = "assets"
# The only example that is a page, so what who looks for examples in a browser gets.
_EXAMPLE = "/examples/websocket_client.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Asked for again at each load: a page and its script must be of one version.
_ASK_AGAIN = "no-cache"
# The name has the content's hash in it: another content has another name.
_FOREVER = "public, max-age=31536000, immutable"
# Below this, the packet is one packet anyway.
_GZIP_BYTES = 1400


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes | None
    headers: dict[str, str]
    access: Access

    @classmethod
    def read(cls, path: Path, cache: str) -> _File:
        body = path.read_bytes()
        packed = gzip.compress(body, 9, mtime=0) if len(body) > _GZIP_BYTES else None
        headers: dict[str, str] = {
            hdrs.CONTENT_TYPE: _TYPES[path.suffix],
            hdrs.CACHE_CONTROL: cache,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        return cls(body, packed, headers, PAGE if path.suffix == ".html" else PUBLIC)

    def answer(self, accepted: str) -> web.Response:
        if self.packed is None or "gzip" not in accepted:
            return web.Response(body=self.body, headers=self.headers)
        return web.Response(body=self.packed, headers={**self.headers, hdrs.CONTENT_ENCODING: "gzip"})


class WebPages:
    """Every file has a route of its own, so no path in a request is ever looked up on disk.

    Where the monitor was not built, its addresses answer a page that says so.
    """

    def __init__(self, static: Path = _STATIC, examples: Path | None = None, built: Path = _BUILT) -> None:
        self._files: dict[str, _File] = {}
        for name, path in _servable(static).items():
            self._files[f"/{name}"] = _File.read(path, _ASK_AGAIN)
        for name, path in _servable(resources.examples() if examples is None else examples).items():
            self._files[f"/examples/{name}"] = _File.read(path, _ASK_AGAIN)
        if _EXAMPLE in self._files:
            self._files["/examples/"] = self._files[_EXAMPLE]
        for name, path in _servable(built / _ASSETS).items():
            self._files[f"/{_ASSETS}/{name}"] = _File.read(path, _FOREVER)
        index = built / "index.html"
        unbuilt = self._files.pop("/unbuilt.html")
        view = _File.read(index, _ASK_AGAIN) if index.is_file() else unbuilt
        self._files.update(dict.fromkeys(_VIEWS, view))

    def attach(self, app: web.Application) -> None:
        for path, file in self._files.items():
            app.router.add_get(path, _sender(file))

    def access(self) -> dict[str, Access]:
        """For the gate: pages may be opened by a link from elsewhere, their parts are loaded by them alone."""
        return {f"GET {path.replace(':.+', '')}": file.access for path, file in self._files.items()}


def _servable(directory: Path) -> dict[str, Path]:
    found = sorted(directory.rglob("*")) if directory.is_dir() else []
    return {path.relative_to(directory).as_posix(): path for path in found if path.suffix in _TYPES and path.is_file()}


def _sender(file: _File) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def send(request: web.Request) -> web.Response:
        return file.answer(request.headers.get(hdrs.ACCEPT_ENCODING, ""))

    return send

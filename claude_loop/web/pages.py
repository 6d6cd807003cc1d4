"""The static pages: read once from the package, served from memory. They hold no data; their scripts ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import hdrs, web

from claude_loop import resources
from claude_loop.transports.gate import PAGE, PUBLIC, Access

_STATIC = Path(__file__).with_name("static")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class WebPages:
    """Every file has a route of its own, so no path in a request is ever looked up on disk."""

    def __init__(self, static: Path = _STATIC, examples: Path | None = None) -> None:
        self._files = {f"/{name}": file for name, file in _servable(static).items()}
        self._files["/"] = self._files.pop("/index.html")
        shown = _servable(resources.examples() if examples is None else examples)
        self._files.update({f"/examples/{name}": file for name, file in shown.items()})

    def attach(self, app: web.Application) -> None:
        for path, file in self._files.items():
            app.router.add_get(path, _sender(file))

    def access(self) -> dict[str, Access]:
        """For the gate: pages may be opened by a link from elsewhere, their parts are loaded by them alone."""
        return {f"GET {path}": PAGE if file.suffix == ".html" else PUBLIC for path, file in self._files.items()}


def _servable(directory: Path) -> dict[str, Path]:
    found = sorted(directory.rglob("*")) if directory.is_dir() else []
    return {path.relative_to(directory).as_posix(): path for path in found if path.suffix in _TYPES and path.is_file()}


def _sender(file: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = file.read_bytes()
    # Asked for again at each load: a page and its script must be of one version.
    headers = {hdrs.CONTENT_TYPE: _TYPES[file.suffix], hdrs.CACHE_CONTROL: "no-cache"}

    async def send(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, headers=headers)

    return send

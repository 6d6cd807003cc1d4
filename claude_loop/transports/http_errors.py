"""Every failure of an HTTP request becomes ``{"error": {"code", "message", "hint", "field"?}}``."""

from __future__ import annotations

from html import escape

import structlog
from aiohttp import hdrs, web

from claude_loop.errors import ClaudeLoopError, Internal, InvalidRequest, MethodNotAllowed, NotFound, TooLarge
from claude_loop.transports.gate import error_response
from claude_loop.transports.http_endpoint import Handler

log = structlog.get_logger(__name__)


async def answer_or_error(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or the error it failed with."""
    try:
        return await handler(request)
    except web.HTTPException as exception:
        if exception.status < 400:
            raise
        return _translated(request, exception)
    except ConnectionResetError:
        return _cut_off(request)  # the client has gone
    except Exception as failure:
        if request.writer.output_size > 0:
            if isinstance(failure, ClaudeLoopError):  # no defect: pruned while it was being replayed, for example
                log.info("an answer had to be broken off", path=request.path, code=failure.code)
            else:
                log.exception("an answer had to be broken off", path=request.path)
            return _cut_off(request)
        if isinstance(failure, ClaudeLoopError):
            return error_response(failure)
        log.exception("request failed", method=request.method, path=request.path)
        return error_response(Internal("The request failed."))


def _cut_off(request: web.Request) -> web.StreamResponse:
    """Ends the connection: half an answer must not look like a whole one, nor be followed by another."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # never sent


def _translated(request: web.Request, exception: web.HTTPException) -> web.StreamResponse:
    if isinstance(exception, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exception.allowed_methods))
        answer = error_response(MethodNotAllowed(f"{request.method} is not used here.", hint=f"Use {allowed}."))
        answer.headers[hdrs.ALLOW] = allowed
        return answer
    if exception.status == 404:
        hint = "GET /api/openapi.json lists every path."
        nothing = NotFound(f"There is nothing at {request.path[:200]}.", hint=hint)
        return _page(nothing) if _opened_by_a_person(request) else error_response(nothing)
    if exception.status == 413:
        return error_response(TooLarge("The body is larger than this server takes."))
    return error_response(InvalidRequest(f"The request cannot be served: {exception.reason}."))


def _opened_by_a_person(request: web.Request) -> bool:
    """Whether a browser shows the answer as a page; a script's `fetch` and other programs read JSON."""
    navigates = request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    return navigates and request.method == "GET" and "text/html" in request.headers.get(hdrs.ACCEPT, "").lower()


def _page(nothing: NotFound) -> web.Response:
    said = escape(nothing.as_dict()["message"])
    return web.Response(
        status=nothing.status,
        content_type="text/html",
        charset="utf-8",
        text=(
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<title>Nothing here · claude-loop</title>\n<link rel="stylesheet" href="/style.css">\n'
            f'<main>\n  <h1>Nothing here</h1>\n  <p>{said}</p>\n  <p><a href="/">All PRDs</a></p>\n</main>\n</html>\n'
        ),
    )

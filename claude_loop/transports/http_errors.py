"""Every failure of an HTTP request becomes ``{"error": {"code", "message", "hint", "field"?}}``."""

from __future__ import annotations

import structlog
from aiohttp import hdrs, web

from claude_loop.errors import ClaudeLoopError, Internal, InvalidRequest, MethodNotAllowed, NotFound, TooLarge
from claude_loop.transports.gate import error_response
from claude_loop.transports.http_endpoint import Handler

log = structlog.get_logger(__name__)


async def answer_or_error(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or the error it failed with. Raises only where no answer can be sent any more."""
    try:
        return await handler(request)
    except ClaudeLoopError as error:
        return error_response(error)
    except web.HTTPException as exception:
        if exception.status < 400:
            raise
        return _translated(request, exception)
    except ConnectionResetError:
        raise  # the client has gone; there is nobody to tell
    except Exception:
        if request.writer.output_size > 0:
            raise  # the answer has begun: it can only be cut off
        log.exception("request failed", method=request.method, path=request.path)
        return error_response(Internal("The request failed."))


def _translated(request: web.Request, exception: web.HTTPException) -> web.StreamResponse:
    if isinstance(exception, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(exception.allowed_methods))
        answer = error_response(MethodNotAllowed(f"{request.method} is not used here.", hint=f"Use {allowed}."))
        answer.headers[hdrs.ALLOW] = allowed
        return answer
    if exception.status == 404:
        hint = "GET /api/openapi.json lists every path."
        return error_response(NotFound(f"There is nothing at {request.path[:200]}.", hint=hint))
    if exception.status == 413:
        return error_response(TooLarge("The body is larger than this server takes."))
    return error_response(InvalidRequest(f"The request cannot be served: {exception.reason}."))

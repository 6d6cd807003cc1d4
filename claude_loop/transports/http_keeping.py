"""`POST /api/prds/{id}/archive` and `/forget`: what a person may do with a PRD."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

import orjson
from aiohttp import web
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from claude_loop.errors import InvalidJson, InvalidRequest
from claude_loop.hub import Hub
from claude_loop.progress.documents import PrdDocument
from claude_loop.progress.keeping import Keeping
from claude_loop.progress.views import NO_PROJECT, find_prd
from claude_loop.transports.http_body import BodyReader
from claude_loop.transports.http_json import json_answer
from claude_loop.transports.http_query import Query

_BODY_BYTES = 4096
_ANY = object()
_CLOSED = ConfigDict(extra="forbid")


@with_config(_CLOSED)
class ArchiveRequest(TypedDict):
    """``archived`` false brings the PRD back. ``project`` is needed when several projects have a PRD of this name; null
    is the one without a project."""

    archived: bool
    project: NotRequired[str | None]


@with_config(_CLOSED)
class ForgetRequest(TypedDict):
    """``confirm`` is the PRD's id once more: what is forgotten does not come back."""

    confirm: str
    project: NotRequired[str | None]


class KeepingAnswer(TypedDict):
    """``seq`` is the event that says so; null if it was so already."""

    ok: Literal[True]
    seq: int | None


class KeepingHandler:
    """Changes PRDs when a person asks for it."""

    def __init__(self, hub: Hub, keeping: Keeping) -> None:
        self._hub = hub
        self._keeping = keeping
        self._body = BodyReader(_BODY_BYTES)

    async def archive(self, request: web.Request) -> web.Response:
        """Put a PRD away, or bring it back."""
        asked = await self._asked(request, {"archived", "project"})
        archived = asked.get("archived")
        if not isinstance(archived, bool):
            raise InvalidRequest("`archived` is true or false.", field="archived")
        prd = await self._prd(request, asked)
        return json_answer({"ok": True, "seq": await self._keeping.archive(prd, archived=archived)})

    async def forget(self, request: web.Request) -> web.Response:
        """Blank what the PRD's events said, and take it out of every view."""
        asked = await self._asked(request, {"confirm", "project"})
        if asked.get("confirm") != request.match_info["id"]:
            raise InvalidRequest(
                "`confirm` is not the id of this PRD.", field="confirm", hint="What is forgotten does not come back."
            )
        prd = await self._prd(request, asked)
        return json_answer({"ok": True, "seq": await self._keeping.forget(prd)})

    async def _prd(self, request: web.Request, asked: dict[str, Any]) -> PrdDocument:
        project = asked.get("project", _ANY)
        if project is _ANY:
            project = None
        elif project is None:
            project = NO_PROJECT
        elif not isinstance(project, str):
            raise InvalidRequest("`project` is a string or null.", field="project")
        return await find_prd(self._hub.log, request.match_info["id"], project)

    async def _asked(self, request: web.Request, known: set[str]) -> dict[str, Any]:
        Query(request, ())
        body = await self._body.read(request)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as failure:
            raise InvalidJson(f"The body is not JSON: {failure.msg}.", hint="Send one JSON object.") from None
        if not isinstance(value, dict):
            raise InvalidJson("The body is not a JSON object.", hint="Send one JSON object.")
        for key in value:
            if key not in known:
                shown = key[:60].encode("unicode_escape").decode()
                hint = f"Fields are {', '.join(sorted(known))}."
                raise InvalidRequest(f"`{shown}` is not a field here.", field=shown, hint=hint)
        return value

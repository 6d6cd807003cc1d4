"""Paths that clients of older systems know: an *execution* is a PRD or one run of it."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from aiohttp import web
from typing_extensions import TypedDict

from claude_loop.filters import Filter
from claude_loop.hub import Hub
from claude_loop.observability.clients import Clients, readers_of
from claude_loop.progress.documents import RunView
from claude_loop.progress.views import prd_detail
from claude_loop.subscription import FROM_START
from claude_loop.transports.http_events import EventJson, stream_start
from claude_loop.transports.http_json import joined, json_bytes
from claude_loop.transports.http_prds import PrdsHandler
from claude_loop.transports.http_query import FROM, PROJECT, Query
from claude_loop.transports.sse import SseTransport

STREAM_QUERY = (PROJECT, FROM)
DEBUG_QUERY = (PROJECT,)
_LAST_EVENTS = 20


class DebugAnswer(TypedDict):
    """``events`` are the last ones, newest first; ``lag`` is that of the slowest of ``readers``, in events."""

    execution_id: str
    kind: Literal["prd", "run"]
    state: RunView
    events: list[EventJson]
    readers: list[dict[str, Any]]
    lag: int


class LegacyHandler:
    """An id is a run's if any event has it as `run_id`, else a PRD's, also one that has not begun yet."""

    def __init__(self, hub: Hub, sse: SseTransport, prds: PrdsHandler, clients: Clients) -> None:
        self._hub = hub
        self._sse = sse
        self._prds = prds
        self._clients = clients

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events of one PRD or run, from its beginning unless `from` says otherwise."""
        query = Query(request, STREAM_QUERY)
        filter_, _ = await self._find(request.match_info["id"], query.text("project"))
        return await self._sse.serve(request, filter_, stream_start(request, query, FROM_START))

    async def debug(self, request: web.Request) -> web.Response:
        """The state of one PRD or run, its last events, and who is reading them."""
        query = Query(request, DEBUG_QUERY)
        execution_id, project = request.match_info["id"], query.text("project")
        filter_, prd_id = await self._find(execution_id, project)
        run_id = execution_id if filter_.run_ids else None
        detail = await prd_detail(self._hub.log, prd_id, self._prds.moment(), project=project, run_id=run_id)
        events = await self._hub.log.read_backwards(None, _LAST_EVENTS, filter_)
        readers = [reader for reader in readers_of(self._clients.statistics()) if _reads(reader, execution_id, prd_id)]
        described = orjson.dumps(
            {
                "execution_id": execution_id,
                "kind": "prd" if run_id is None else "run",
                "state": detail["run"],
                "readers": readers,
                "lag": max((reader["lag"] for reader in readers), default=0),
            }
        )
        return json_bytes(described[:-1] + b',"events":[' + joined(events).encode() + b"]}")

    async def _find(self, execution_id: str, project: str | None) -> tuple[Filter, str]:
        """The filter for its events, and its PRD."""
        projects = (project,) if project else ()
        runs = Filter(run_ids=(execution_id,), projects=projects)
        newest = await self._hub.log.read_backwards(None, 1, runs)
        if newest and newest[0].prd_id is not None:
            return runs, newest[0].prd_id
        return Filter(prd_ids=(execution_id,), projects=projects), execution_id


def _reads(reader: dict[str, Any], execution_id: str, prd_id: str) -> bool:
    return prd_id in reader["prds"] or execution_id in reader.get("runs", ())

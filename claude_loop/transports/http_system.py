"""What the daemon says about itself over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import hdrs, web
from typing_extensions import TypedDict

from claude_loop.observability.metrics import CONTENT_TYPE, Metrics
from claude_loop.observability.series import MINUTES, Series
from claude_loop.observability.status import Status
from claude_loop.transports.gate import principal_of
from claude_loop.transports.http_endpoint import Parameter
from claude_loop.transports.http_json import json_answer, json_bytes
from claude_loop.transports.http_query import Query, number_schema

SERIES_QUERY = (Parameter("minutes", "How far back.", schema=number_schema(1, MINUTES, MINUTES)),)


class Sample(TypedDict):
    labels: dict[str, str]
    value: float


class MetricsAnswer(TypedDict):
    """The samples of each metric, by name."""

    metrics: dict[str, list[Sample]]


class SystemHandler:
    """Health, status, metrics and the description of the API."""

    def __init__(self, status: Status, metrics: Metrics, series: Series, openapi: Callable[[], bytes]) -> None:
        self._status = status
        self._metrics = metrics
        self._series = series
        self._openapi = openapi

    async def health(self, request: web.Request) -> web.Response:
        """Whether the daemon does its work; 503 with the reason while it does not."""
        answer = self._status.health()
        status = 200 if answer["status"] == "healthy" else 503
        if not principal_of(request).may("read"):
            answer = {"status": answer["status"]}
        return json_answer(answer, status)

    async def status(self, request: web.Request) -> web.Response:
        """Everything the daemon knows about itself."""
        Query(request, ())
        return json_answer(await self._status.report())

    async def series(self, request: web.Request) -> web.Response:
        """The last minutes in figures, for charts."""
        minutes = Query(request, SERIES_QUERY).whole_number("minutes", MINUTES, 1, MINUTES)
        return json_answer(self._series.answer(minutes))

    async def metrics(self, request: web.Request) -> web.Response:
        """Metrics in Prometheus' text format."""
        del request
        text = self._metrics.exposition(await self._status.report())
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def metrics_json(self, request: web.Request) -> web.Response:
        """The same metrics as JSON."""
        Query(request, ())
        samples: dict[str, Any] = self._metrics.samples(await self._status.report())
        return json_answer({"metrics": samples})

    async def openapi(self, request: web.Request) -> web.Response:
        """This description, OpenAPI 3.1."""
        Query(request, ())
        return json_bytes(self._openapi())

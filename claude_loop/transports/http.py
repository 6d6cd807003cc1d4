"""The HTTP transport: every route, with what it needs, takes and answers."""

from __future__ import annotations

import time
from functools import cached_property

import orjson
from aiohttp import web

from claude_loop.clock import Clock
from claude_loop.hub import Hub
from claude_loop.observability.clients import Clients
from claude_loop.observability.metrics import Metrics
from claude_loop.observability.published import Published
from claude_loop.observability.series import Series, SeriesAnswer
from claude_loop.observability.status import HealthAnswer, Status, StatusAnswer
from claude_loop.progress.documents import PrdDetail
from claude_loop.progress.keeping import Keeping
from claude_loop.progress.report import Report
from claude_loop.progress.session_view import SessionDetail, SessionList
from claude_loop.search.service import Search
from claude_loop.settings import Settings
from claude_loop.transports.gate import CONTROL, EMIT, PUBLIC, READ, Access
from claude_loop.transports.http_endpoint import Answer, Endpoint, Handler
from claude_loop.transports.http_errors import answer_or_error
from claude_loop.transports.http_events import PAGE_QUERY, STREAM_QUERY, EventPage, EventsHandler
from claude_loop.transports.http_keeping import ArchiveRequest, ForgetRequest, KeepingAnswer, KeepingHandler
from claude_loop.transports.http_legacy import DEBUG_QUERY, DebugAnswer, LegacyHandler
from claude_loop.transports.http_legacy import STREAM_QUERY as EXECUTION_QUERY
from claude_loop.transports.http_outcome import PublishAnswer
from claude_loop.transports.http_prds import DETAIL_QUERY, PATCHES_QUERY, PatchesAnswer, PrdList, PrdsHandler
from claude_loop.transports.http_publish import Accepts, PublishHandler
from claude_loop.transports.http_report import REPORT_QUERY, ReportHandler
from claude_loop.transports.http_runs import OUTPUT_QUERY, RUN_ID, OutputPage, RunsHandler
from claude_loop.transports.http_search import SEARCH_QUERY, SearchHandler, SearchPage
from claude_loop.transports.http_sessions import DETAIL_QUERY as SESSION_QUERY
from claude_loop.transports.http_sessions import LIST_QUERY, SessionsHandler
from claude_loop.transports.http_system import SERIES_QUERY, MetricsAnswer, SystemHandler
from claude_loop.transports.openapi import ErrorAnswer, describe
from claude_loop.transports.sse import SseTransport

_EVENT_STREAM = {200: Answer("A stream without end.", media="text/event-stream")}
_NO_SUCH_PRD = Answer("No such PRD, or no such run of it.", ErrorAnswer)
_SEVERAL = Answer("Several projects have a PRD of this name.", ErrorAnswer)


class HttpTransport:
    """Handlers for one hub. ``sse`` serves the streams; its owner closes it. Without ``search`` there is none."""

    def __init__(
        self,
        hub: Hub,
        acceptor: Accepts,
        sse: SseTransport,
        settings: Settings,
        clock: Clock,
        *,
        status: Status,
        clients: Clients,
        metrics: Metrics,
        published: Published,
        series: Series,
        keeping: Keeping,
        search: Search | None = None,
    ) -> None:
        self._version = status.identity.version
        self._metrics = metrics
        self._publish = PublishHandler(hub, acceptor, published, settings.limits, clock)
        self._events = EventsHandler(hub, sse, clock)
        self._keeping = KeepingHandler(hub, keeping)
        self._search = SearchHandler(hub, search)
        self._prds = PrdsHandler(hub, clock, settings.stalled_after)
        self._sessions = SessionsHandler(hub, clock)
        self._runs = RunsHandler(hub)
        self._report = ReportHandler(hub, self._prds.moment)
        self._system = SystemHandler(status, metrics, series, lambda: self._description)
        self._legacy = LegacyHandler(hub, sse, self._prds, clients)

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (*self._event_endpoints(), *self._prd_endpoints(), *self._system_endpoints(), *self._legacy_endpoints())

    @cached_property
    def _description(self) -> bytes:
        return orjson.dumps(describe(self.endpoints, self._version))

    def routes(self) -> list[web.RouteDef]:
        return [endpoint.route() for endpoint in self.endpoints]

    def access(self) -> dict[str, Access]:
        """For the gate: what each route needs."""
        return {endpoint.name: endpoint.access for endpoint in self.endpoints}

    def attach(self, app: web.Application) -> None:
        """Add the routes, and the middleware directly around all handlers; the gate goes before it."""
        app.router.add_routes(self.routes())
        app.middlewares.append(self.middleware)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns failures into error answers and counts what was answered."""
        begun = time.perf_counter()
        response = await answer_or_error(request, handler)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "(none)"
        seconds = time.perf_counter() - begun if isinstance(response, web.Response) else None
        self._metrics.request(request.method, route, response.status, seconds)
        return response

    def close(self) -> None:
        """Refuse new events from now on."""
        self._publish.closing = True

    def _event_endpoints(self) -> tuple[Endpoint, ...]:
        return (
            Endpoint(
                "POST",
                "/api/events",
                EMIT,
                self._publish.post_events,
                {
                    200: Answer("Committed. Single events may have been rejected.", PublishAnswer),
                    413: Answer("The body, or every event in it, is too large.", ErrorAnswer),
                    415: Answer("Neither JSON nor NDJSON.", ErrorAnswer),
                    422: Answer("Every event was rejected.", ErrorAnswer),
                },
                takes_events=True,
            ),
            Endpoint(
                "GET", "/api/events", READ, self._events.get_events, {200: Answer("A page.", EventPage)}, PAGE_QUERY
            ),
            Endpoint(
                "GET",
                "/api/events/stream",
                READ,
                self._events.stream_events,
                _EVENT_STREAM,
                STREAM_QUERY,
                streams=True,
            ),
            Endpoint(
                "GET",
                "/api/search",
                READ,
                self._search.search,
                {200: Answer("A page, newest first.", SearchPage)},
                SEARCH_QUERY,
            ),
        )

    def _prd_endpoints(self) -> tuple[Endpoint, ...]:
        missing = {404: _NO_SUCH_PRD, 409: _SEVERAL}
        return (
            Endpoint("GET", "/api/prds", READ, self._prds.list_prds, {200: Answer("Cards.", PrdList)}),
            Endpoint(
                "GET",
                "/api/prds/{id}",
                READ,
                self._prds.get_prd,
                {200: Answer("The PRD.", PrdDetail), **missing},
                DETAIL_QUERY,
            ),
            Endpoint(
                "GET",
                "/api/prds/{id}/patches",
                READ,
                self._prds.get_patches,
                {200: Answer("Patches, oldest first.", PatchesAnswer), **missing},
                PATCHES_QUERY,
                streams=True,
            ),
            Endpoint(
                "GET",
                "/api/runs/{id}/output",
                READ,
                self._runs.get_output,
                {200: Answer("A page, oldest first.", OutputPage)},
                OUTPUT_QUERY,
                in_path=RUN_ID,
            ),
            Endpoint(
                "GET",
                "/api/report",
                READ,
                self._report.get_report,
                {200: Answer("The report.", Report)},
                REPORT_QUERY,
            ),
            *self._keeping_endpoints(missing),
            Endpoint(
                "GET",
                "/api/sessions",
                READ,
                self._sessions.list_sessions,
                {200: Answer("Sessions.", SessionList)},
                LIST_QUERY,
            ),
            Endpoint(
                "GET",
                "/api/sessions/{id}",
                READ,
                self._sessions.get_session,
                {200: Answer("The session.", SessionDetail), 404: Answer("No such session.", ErrorAnswer)},
                SESSION_QUERY,
            ),
        )

    def _keeping_endpoints(self, missing: dict[int, Answer]) -> tuple[Endpoint, ...]:
        answers = {200: Answer("Done.", KeepingAnswer), **missing}
        return (
            Endpoint("POST", "/api/prds/{id}/archive", CONTROL, self._keeping.archive, answers, takes=ArchiveRequest),
            Endpoint("POST", "/api/prds/{id}/forget", CONTROL, self._keeping.forget, answers, takes=ForgetRequest),
        )

    def _system_endpoints(self) -> tuple[Endpoint, ...]:
        system = self._system
        return (
            Endpoint("GET", "/health", PUBLIC, system.health, _HEALTH),
            Endpoint("GET", "/status", READ, system.status, {200: Answer("The status.", StatusAnswer)}),
            Endpoint(
                "GET", "/api/series", READ, system.series, {200: Answer("The samples.", SeriesAnswer)}, SERIES_QUERY
            ),
            Endpoint("GET", "/metrics", READ, system.metrics, {200: Answer("Metrics.", media="text/plain")}),
            Endpoint("GET", "/api/openapi.json", PUBLIC, system.openapi, {200: Answer("OpenAPI 3.1.", dict)}),
        )

    def _legacy_endpoints(self) -> tuple[Endpoint, ...]:
        system, legacy = self._system, self._legacy
        return (
            Endpoint("GET", "/api/health", PUBLIC, system.health, _HEALTH),
            Endpoint("GET", "/api/metrics", READ, system.metrics_json, {200: Answer("Metrics.", MetricsAnswer)}),
            Endpoint(
                "GET",
                "/api/executions/{id}/stream",
                READ,
                legacy.stream,
                _EVENT_STREAM,
                EXECUTION_QUERY,
                streams=True,
            ),
            Endpoint(
                "GET",
                "/api/executions/{id}/debug",
                READ,
                legacy.debug,
                {200: Answer("The state.", DebugAnswer), 404: _NO_SUCH_PRD, 409: _SEVERAL},
                DEBUG_QUERY,
            ),
        )


_HEALTH = {
    200: Answer("Healthy.", HealthAnswer),
    503: Answer("Unhealthy, with the reason.", HealthAnswer),
}

"""Metrics in Prometheus' format, on a registry of their own.

Only HTTP requests are counted here. Everything else is read from the status report at the moment of the scrape, so
that publishing an event costs no metric.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from claude_loop.observability.status import StatusAnswer

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RequestCounts(Collector):
    """HTTP requests by method, route and status, and how long they took by route."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._slower_than: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self.refused: Counter[str] = Counter()

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        self._answered[method, route, status] += 1
        if seconds is not None:
            counts = self._slower_than.get(route)
            if counts is None:
                counts = self._slower_than[route] = [0] * (len(_SECONDS) + 1)
            counts[bisect_left(_SECONDS, seconds)] += 1
            self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "claude_loop_http_requests", "HTTP requests answered.", labels=["method", "route", "status"]
        )
        for (method, route, status), count in self._answered.items():
            answered.add_metric([method, route, str(status)], count)
        yield answered
        seconds = HistogramMetricFamily(
            "claude_loop_http_request_seconds", "From a request's head to its answer; no streams.", labels=["route"]
        )
        for route, counts in self._slower_than.items():
            bounds = [*map(str, _SECONDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            seconds.add_metric([route], buckets, self._seconds[route])
        yield seconds
        refused = CounterMetricFamily("claude_loop_http_refused", "Requests the gate refused.", labels=["code"])
        for code, count in self.refused.items():
            refused.add_metric([code], count)
        yield refused


class Metrics:
    """Counters of HTTP requests, and the status report as metrics."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._report = ReportCollector()
        self._requests = RequestCounts()
        self._registry.register(self._report)
        self._registry.register(self._requests)
        ProcessCollector(registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count one answer. ``route`` is the pattern, not the path; ``seconds`` None for a stream."""
        self._requests.answered(method, route, status, seconds)

    def refused(self, code: str) -> None:
        """Count one request that the gate refused."""
        self._requests.refused[code] += 1

    def exposition(self, report: StatusAnswer) -> bytes:
        """Everything, for a scraper."""
        self._report.report = report
        return generate_latest(self._registry)

    def samples(self, report: StatusAnswer) -> dict[str, list[dict[str, Any]]]:
        """The same as JSON: for each name its values, each with its labels."""
        self._report.report = report
        found: dict[str, list[dict[str, Any]]] = {}
        for family in self._registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, []).append({"labels": sample.labels, "value": sample.value})
        return found


class ReportCollector(Collector):
    """Turns the status report into metrics."""

    report: StatusAnswer | None = None

    def collect(self) -> Iterator[Metric]:
        report = self.report
        if report is None:
            return
        yield _gauge("info", "Which version runs.", 1, {"version": report["version"]})
        yield _gauge("healthy", "Whether the daemon does its work.", int(report["status"] == "healthy"))
        yield _gauge("uptime_seconds", "Time since the daemon started.", report["uptime_seconds"])
        yield from _log_metrics(report["log"])
        yield from _published_metrics(report["published"], report["transports"])
        yield from _transport_metrics(report["transports"])
        yield from _spool_metrics(report["spool"] or {})


def _log_metrics(log: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("log_writable", "Whether events can be stored.", int(log["failure"] is None))
    yield _gauge("log_first_seq", "Number of the oldest event kept.", log["first"])
    yield _gauge("log_head_seq", "Number of the newest event.", log["head"])
    for key, text in (("events", "Events kept."), ("bytes", "Size of the log."), ("pending", "Events to be written.")):
        if log.get(key) is not None:
            yield _gauge(f"log_{key}", text, log[key])
    if log.get("commits") is not None:
        yield _counter("log_commits", "Commits since the start.", log["commits"])
    if log.get("commit_ms"):
        family = GaugeMetricFamily("claude_loop_log_commit_seconds", "Recent commits.", labels=["quantile"])
        for name, milliseconds in log["commit_ms"].items():
            family.add_metric([name], milliseconds / 1000)
        yield family


def _published_metrics(published: Mapping[str, Any], transports: Mapping[str, Any]) -> Iterator[Metric]:
    stored = CounterMetricFamily("claude_loop_events_stored", "Events stored.", labels=["transport"])
    for transport, count in published["stored"].items():
        stored.add_metric([transport], count)
    for transport, statistics in transports.items():
        if "published" in statistics:
            stored.add_metric([transport], statistics["published"])
    yield stored
    repeated = CounterMetricFamily("claude_loop_events_duplicate", "Events stored before.", labels=["transport"])
    for transport, count in published["duplicates"].items():
        repeated.add_metric([transport], count)
    yield repeated
    refused = CounterMetricFamily("claude_loop_events_refused", "Events refused.", labels=["transport", "code"])
    for transport, codes in published["refused"].items():
        for code, count in codes.items():
            refused.add_metric([transport, code], count)
    yield refused


def _transport_metrics(transports: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    clients = GaugeMetricFamily("claude_loop_clients", "Connected clients.", labels=["transport"])
    subscriptions = GaugeMetricFamily("claude_loop_subscriptions", "Subscriptions.", labels=["transport"])
    lag = GaugeMetricFamily("claude_loop_reader_lag_events", "How far the last reader is behind.", labels=["transport"])
    cut_off = CounterMetricFamily("claude_loop_readers_cut_off", "Readers that did not read.", labels=["transport"])
    for transport, statistics in transports.items():
        clients.add_metric([transport], statistics["clients"])
        subscriptions.add_metric([transport], statistics["subscriptions"])
        lag.add_metric([transport], max((reader["lag"] for reader in statistics["readers"]), default=0))
        cut_off.add_metric([transport], statistics["cut_off"])
    yield from (clients, subscriptions, lag, cut_off)


def _spool_metrics(spool: Mapping[str, Any]) -> Iterator[Metric]:
    for key, value in spool.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield _gauge(f"spool_{key}", "As /status has it under `spool`.", value)


def _gauge(name: str, text: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(f"claude_loop_{name}", text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"claude_loop_{name}", text, value=value)

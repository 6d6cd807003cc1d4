"""What the daemon says about itself: health, status, metrics."""

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from claude_loop.errors import StorageFull
from claude_loop.eventlog.memory import MemoryEventLog
from claude_loop.progress.projection import ProgressProjection
from tests.http_rig import TOKEN, serving
from tests.sse_client import stream
from tests.support import eventually


class Failing(MemoryEventLog):
    problem = None

    @property
    def failure(self):
        return self.problem


class Spool:
    def statistics(self):
        return {"files": 2, "rejected": 1, "rejected_lines": [{"file": "a.jsonl", "reason": "no JSON"}]}


@pytest.mark.parametrize("path", ["/health", "/api/health"])
async def test_health_counts_clients_and_subscriptions(path):
    async with serving() as rig:
        healthy = await rig.get(path)
        assert (healthy["status"], healthy["clients"], healthy["subscriptions"]) == ("healthy", 0, 0)
        assert "reason" not in healthy
        async with stream(rig.session) as reader:
            await reader.next()
            now = await rig.get(path)
            assert (now["clients"], now["subscriptions"]) == (1, 1)


async def test_while_the_log_cannot_be_written_health_says_why_and_recovers():
    log = Failing(ProgressProjection())
    async with serving(log) as rig:
        log.problem = StorageFull("The disk is full.")
        answer = await rig.get("/health", status=503)
        assert (answer["status"], answer["reason"]) == ("unhealthy", "The disk is full.")
        assert answer["error"]["code"] == "storage_full"
        report = await rig.get("/status")
        assert (report["status"], report["reason"]) == ("unhealthy", "The disk is full.")
        assert report["log"]["failure"]["code"] == "storage_full"
        log.problem = None
        assert (await rig.get("/health"))["status"] == "healthy"


async def test_a_stranger_hears_whether_it_is_healthy_and_nothing_else():
    async with serving(auth={"loopback": "token"}) as rig:
        assert await rig.get("/health") == {"status": "healthy"}
        known = await rig.get("/health", headers={"Authorization": f"Bearer {TOKEN}"})
        assert known["clients"] == 0
        rig.health.task_failed("server/retention", ValueError("x"))
        assert await rig.get("/api/health", status=503) == {"status": "unhealthy"}


async def test_a_dead_background_task_is_unhealthy():
    async with serving() as rig:
        rig.health.task_failed("server/retention", ValueError("x"))
        answer = await rig.get("/health", status=503)
        assert "server/retention (ValueError)" in answer["reason"]


async def test_status_has_everything():
    async with serving(spool=Spool()) as rig:
        await rig.post({"type": "a.b", "id": "x"})
        await rig.post({"type": "a.b", "id": "x"})
        async with stream(rig.session, prd_id=["A", "B"]) as reader:
            await reader.next()
            report = await rig.get("/status")
        assert report["version"] == "0.0.0"
        assert report["url"] == rig.url
        assert report["clients"] == 1
        assert report["subscriptions"] == {"A": 1, "B": 1}
        log = report["log"]
        assert (log["first"], log["head"], log["events"]) == (1, 1, 1)
        assert log["cursor"] == str(rig.hub.state.head_cursor)
        assert log["retention"] == {"days": 90.0, "events": 10_000_000}
        assert report["spool"]["rejected_lines"] == [{"file": "a.jsonl", "reason": "no JSON"}]
        assert report["published"]["stored"] == {"http": 1}
        assert report["published"]["duplicates"] == {"http": 1}
        assert report["transports"]["sse"]["readers"][0]["prds"] == ["A", "B"]
        assert report["tasks"]["hub"] >= 1
        assert report["tasks"]["sse"] == 2


async def test_a_status_that_cannot_measure_the_log_still_answers():
    class Unmeasurable(Failing):
        async def statistics(self):
            raise StorageFull("The disk is full.")

    log = Unmeasurable(ProgressProjection())
    async with serving(log) as rig:
        log.problem = StorageFull("The disk is full.")
        assert (await rig.get("/status"))["log"]["failure"]["code"] == "storage_full"
        assert (await rig.get("/health", status=503))["status"] == "unhealthy"
        log.problem = None
        assert (await rig.refusal("/status"))["code"] == "storage_full"


async def scrape(rig):
    async with rig.session.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_can_be_scraped():
    async with serving(spool=Spool()) as rig:
        await rig.post([{"type": "a.b", "id": "1"}, {"type": "a.b", "id": "1"}, {"type": "B"}])
        await rig.refusal("/nothing")
        async with stream(rig.session) as reader:
            await reader.next()
            values = await scrape(rig)
        await eventually(lambda: not rig.sse._streams)
        later = await scrape(rig)
    assert values["claude_loop_healthy",] == 1
    assert values["claude_loop_info", ("version", "0.0.0")] == 1
    assert values["claude_loop_log_head_seq",] == 1
    assert values["claude_loop_events_stored_total", ("transport", "http")] == 1
    assert values["claude_loop_events_duplicate_total", ("transport", "http")] == 1
    assert values["claude_loop_events_refused_total", ("code", "invalid_event"), ("transport", "http")] == 1
    assert values["claude_loop_clients", ("transport", "sse")] == 1
    assert values["claude_loop_spool_files",] == 2
    posts = ("method", "POST"), ("route", "/api/events"), ("status", "200")
    assert values["claude_loop_http_requests_total", *posts] == 1
    assert values["claude_loop_http_requests_total", ("method", "GET"), ("route", "(none)"), ("status", "404")] == 1
    assert values["claude_loop_http_request_seconds_count", ("route", "/api/events")] == 1
    assert values["claude_loop_http_request_seconds_bucket", ("le", "+Inf"), ("route", "/api/events")] == 1
    assert values["process_resident_memory_bytes",] > 1e6
    # A stream is counted when it ends, and its length is no response time.
    streams = ("method", "GET"), ("route", "/api/events/stream"), ("status", "200")
    assert ("claude_loop_http_requests_total", *streams) not in values
    assert later["claude_loop_http_requests_total", *streams] == 1
    assert ("claude_loop_http_request_seconds_count", ("route", "/api/events/stream")) not in later


async def test_what_the_gate_refuses_is_counted():
    async with serving() as rig:
        async with rig.session.get("/api/events", headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
        assert (await scrape(rig))["claude_loop_http_refused_total", ("code", "origin_refused")] == 1


async def test_two_servers_in_one_process_do_not_share_metrics():
    async with serving() as one, serving() as two:
        await one.post({"type": "a.b"})
        assert (await scrape(two))["claude_loop_log_head_seq",] == 0


async def test_the_same_metrics_as_json():
    async with serving() as rig:
        await rig.post({"type": "a.b"})
        metrics = (await rig.get("/api/metrics"))["metrics"]
        assert metrics["claude_loop_log_head_seq"] == [{"labels": {}, "value": 1}]
        assert {"labels": {"transport": "http"}, "value": 1} in metrics["claude_loop_events_stored_total"]


async def test_the_log_in_sqlite_reports_its_commits(home):
    from claude_loop.eventlog.sqlite import SqliteEventLog

    home.mkdir(parents=True)
    async with serving(SqliteEventLog(home / "events.db", ProgressProjection())) as rig:
        await rig.post({"type": "a.b"})
        values = await scrape(rig)
        assert values["claude_loop_log_commits_total",] == 1
        assert 0 < values["claude_loop_log_commit_seconds", ("quantile", "p99")] < 10


async def test_numbers_stay_json(home):
    async with serving() as rig, rig.session.get("/status") as answer:
        orjson.loads(await answer.read())

"""The API description: well formed, complete, and true of what the server answers."""

import re

import pytest

from claude_loop.catalogue import CATALOGUE
from tests.http_rig import serving
from tests.json_schema import problems, references, resolve

METHODS = {"get", "post", "put", "delete"}


@pytest.fixture
async def rig():
    async with serving() as running:
        yield running


@pytest.fixture
async def api(rig):
    return await rig.get("/api/openapi.json")


def operations(api):
    return [(path, method, op) for path, item in api["paths"].items() for method, op in item.items()]


async def test_it_is_well_formed(api):
    assert re.fullmatch(r"3\.1\.\d+", api["openapi"])
    assert api["info"]["title"]
    assert api["info"]["version"] == "0.0.0"
    assert set(api) == {"openapi", "info", "paths", "components"}
    for path, method, operation in operations(api):
        assert path.startswith("/")
        assert method in METHODS
        assert operation["summary"].endswith(".") or operation["summary"].endswith(":"), path
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert response["description"]
            assert all("schema" in content for content in response["content"].values())
        for parameter in operation["parameters"]:
            assert parameter["in"] in ("path", "query")
            assert parameter["schema"]
    ids = [operation["operationId"] for _, _, operation in operations(api)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"\w+", name) for name in ids)


async def test_every_reference_leads_somewhere(api):
    found = references(api)
    assert len(found) > 20
    for reference in found:
        assert isinstance(resolve(reference, api), dict)


async def test_path_parameters_are_those_of_the_path(api):
    for path, _, operation in operations(api):
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")
        names = [(p["in"], p["name"]) for p in operation["parameters"]]
        assert len(names) == len(set(names))


async def test_it_lists_every_route_of_the_transport_and_no_other(rig, api):
    described = {(path, method.upper()) for path, method, _ in operations(api)}
    served = {
        (route.resource.canonical, route.method)
        for route in rig.app.router.routes()
        if route.method not in ("HEAD", "OPTIONS") and route.resource.canonical != "/socket.io/"
    }
    assert described == served
    assert ("/api/events", "POST") in described


async def test_what_a_route_takes_is_what_it_refuses_nothing_of(rig, api):
    """Every described query parameter is known to its route, and one that is not described is refused."""
    for path, method, operation in operations(api):
        if method != "get" or path in ("/health", "/api/health", "/metrics"):
            continue
        url = path.replace("{id}", "NONE")
        assert (await rig.refusal(f"{url}?not_a_parameter=1"))["field"] == "not_a_parameter"
        for parameter in operation["parameters"]:
            if parameter["in"] == "query":
                refusal = await refusal_or_none(rig, f"{url}?{parameter['name']}=")
                assert refusal is None or "is not a parameter" not in refusal["message"], (path, parameter)


async def refusal_or_none(rig, path):
    async with rig.session.get(path) as answer:
        return (await answer.json())["error"] if answer.status >= 400 else None


async def test_cursors_times_and_names_are_described_as_they_are_read(api):
    def parameter(path, name):
        return next(one for one in api["paths"][path]["get"]["parameters"] if one["name"] == name)

    cursor = f"{'0' * 16}.7.{'a' * 10}"
    for path, name in (("/api/events", "after"), ("/api/search", "before"), ("/api/runs/{id}/output", "after")):
        assert problems(cursor, parameter(path, name)["schema"], api) == []
        assert problems("x", parameter(path, name)["schema"], api)
    assert parameter("/api/search", "q")["required"] is True
    assert problems("x" * 129, parameter("/api/runs/{id}/output", "id")["schema"], api)
    for text, fits in (
        ("2026-01-26T12:00:00Z", True),
        ("1700000000", True),
        ("8h", True),
        ("22:00", True),
        ("now", False),
    ):
        assert (problems(text, parameter("/api/report", "since")["schema"], api) == []) == fits
    # Many validators know no surrogates in a pattern, and would then check nothing.
    assert "ud800" not in str(api["components"]["schemas"]["NewEvent"])


async def test_every_known_type_has_its_payload(api):
    schemas = api["components"]["schemas"]
    assert {name for name in schemas if name.startswith("data.")} == {f"data.{type_}" for type_ in CATALOGUE}
    assert schemas["data.test.run"]["required"] == ["passed", "failed"]
    assert set(schemas["data.test.run"]["properties"]) >= {"passed", "failed", "total", "failures", "duration_ms"}


@pytest.mark.parametrize(
    ("event", "fits"),
    [
        ({"type": "a.b"}, True),
        ({"type": "a.b", "data": {"anything": [1]}, "timestamp": 1.5, "prd_id": "P"}, True),
        ({"type": "a.b", "data": None}, True),
        ({"type": "prd.started"}, True),
        ({"type": "prd.started", "data": None}, True),
        ({"type": "story.started", "story_id": "U", "data": None}, True),
        ({"type": "prd.completed"}, False),
        ({"type": "prd.completed", "data": None}, False),
        ({"type": "usage.reported"}, False),
        ({"type": "test.run", "story_id": "U"}, False),
        ({"type": "test.run", "story_id": "U", "data": None}, False),
        ({"type": "test.run", "story_id": "U", "data": {"passed": 1, "failed": 0}}, True),
        ({"type": "test.run", "story_id": "U", "data": {"passed": -1, "failed": 0}}, False),
        ({"type": "commit.created", "story_id": "U", "data": {"commit_hash": ""}}, False),
        ({"type": "agent.waiting", "data": {"for": "human", "reason": "why"}}, True),
        ({"type": "agent.waiting", "data": {"for": "godot", "reason": "why"}}, False),
        ({"type": "test.run", "data": {"story_id": "U", "passed": 1, "failed": 0}}, True),
        ({"type": "test.run", "data": {"passed": 1, "failed": 0}}, False),
        ({"type": "story.started", "data": {"story_id": ""}}, False),
        ({"type": "story.started", "data": {"story_id": None}}, False),
        ({"type": "story.started", "story_id": "U", "data": {"story_id": None}}, True),
        ({"type": "error.occurred", "data": {"error": "x", "story_id": None}}, True),
        ({"type": "log.message", "data": {"level": "i", "message": "m", "story_id": None}}, True),
        ({"type": "log.message", "data": {"level": "i", "message": "m", "story_id": ""}}, False),
        ({"type": "progress.updated", "data": {"current": 1, "total": 2, "story_id": 7}}, True),
        ({"type": "progress.updated", "data": {"current": 1, "total": 2, "story_id": "tab\t"}}, False),
        ({"type": "prd.completed", "data": {"status": "failed"}}, True),
        ({"type": "prd.completed", "data": {}}, False),
        ({"type": "run.completed", "data": {}}, False),
        ({"type": "progress.updated", "data": {"current": 1}}, False),
        ({"type": "a.b", "timestamp": "2026-01-26T12:00:00Z"}, True),
        ({"type": "a.b", "timestamp": "yesterday"}, False),
        ({"type": "a.b", "timestamp": "1969-12-31T00:00:00Z"}, False),
        ({"type": "a.b", "timestamp": -1}, False),
        ({"type": "a.b", "timestamp": -1e-9}, False),
        ({"type": "a.b", "timestamp": 0}, True),
        ({"type": "Upper"}, False),
        ({"type": "a.b", "id": ""}, False),
        ({"type": "a.b", "id": "x" * 129}, False),
        ({"type": "a.b", "id": "tab\t"}, False),
        ({"type": "a.b", "data": [1]}, False),
        ({"type": "a.b", "prd_id": 7}, False),
        ({"type": "a.b", "colour": "red"}, False),
        ({"type": "a.b", "seq": 1}, False),
        ({}, False),
    ],
)
async def test_the_description_of_an_event_and_the_server_agree(rig, api, event, fits):
    schema = api["components"]["schemas"]["NewEvent"]
    assert (problems(event, schema, api) == []) == fits
    async with rig.session.post("/api/events", json=event) as answer:
        assert (answer.status == 200) == fits


async def test_what_the_server_answers_is_what_is_described(rig, api):
    await rig.post(
        [
            {"type": "prd.started", "prd_id": "P", "project": "shop", "data": {"total_stories": 3}},
            {"type": "story.started", "prd_id": "P", "project": "shop", "story_id": "U"},
            {
                "type": "agent.waiting",
                "prd_id": "P",
                "project": "shop",
                "data": {"for": "human", "reason": "permission"},
            },
            {
                "type": "test.run",
                "prd_id": "P",
                "project": "shop",
                "story_id": "U",
                "data": {"passed": 1, "failed": 2, "failures": [{"name": "t"}]},
            },
            {
                "type": "commit.created",
                "prd_id": "P",
                "project": "shop",
                "story_id": "U",
                "data": {"commit_hash": "abc1234"},
            },
            {"type": "error.occurred", "prd_id": "P", "project": "shop", "story_id": "U", "data": {"error": "x"}},
            {"type": "progress.updated", "prd_id": "P", "project": "shop", "data": {"current": 1, "total": 2}},
            {"type": "story.completed", "prd_id": "P", "project": "shop", "story_id": "U", "data": {"success": True}},
            {"type": "prd.completed", "prd_id": "P", "project": "shop", "data": {"success": True}},
        ]
    )
    stale = f"{'f' * 16}.1.{'0' * 10}"
    checked = 0
    for url in [
        "/health", "/api/health", "/status", "/api/metrics", "/api/openapi.json",
        "/api/events", f"/api/events?after={stale}", "/api/events?limit=0", "/nothing",
        "/api/prds", "/api/prds/P", "/api/prds/NONE", "/api/prds/P/patches", f"/api/prds/P/patches?after={stale}",
        "/api/executions/P/debug", "/api/executions/NONE/debug",
    ]:  # fmt: skip
        async with rig.session.get(url) as answer:
            body, status = await answer.json(), answer.status
        path = template(api, url.partition("?")[0])
        operation = api["paths"][path]["get"] if path else api["paths"]["/status"]["get"]
        response = operation["responses"].get(str(status), operation["responses"]["default"])
        assert problems(body, response["content"]["application/json"]["schema"], api) == [], url
        checked += 1
    assert checked == 16


async def test_what_publishing_answers_is_what_is_described(rig, api):
    responses = api["paths"]["/api/events"]["post"]["responses"]
    for body, status in [
        ({"type": "a.b"}, 200),
        ([{"type": "a.b"}, {"type": "B"}], 200),
        ({"type": "B"}, 422),
        (b"{", 400),
        ({"type": "a.b", "data": {"x": "y" * 70_000}}, 413),
    ]:
        answer = await rig.post(body, status=status)
        schema = responses[str(status)]["content"]["application/json"]["schema"]
        assert problems(answer, schema, api) == []


def template(api, path):
    for candidate in api["paths"]:
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", candidate), path):
            return candidate
    return None


async def test_who_may_call_what_is_said(api):
    needs = {f"{method} {path}": operation["x-needs"] for path, method, operation in operations(api)}
    assert needs["post /api/events"] == "emit"
    assert needs["get /api/events"] == "read"
    assert needs["get /health"] == "nothing"


def test_the_validator_itself_finds_what_is_wrong():
    root = {"d": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}}
    schema = {"$ref": "#/d"}
    assert problems({"n": 1}, schema, root) == []
    assert problems({"n": 0}, schema, root)
    assert problems({"n": True}, schema, root)
    assert problems({}, schema, root)
    assert problems({"n": 1}, {"additionalProperties": False}, root)
    with pytest.raises(AssertionError):
        problems(1, {"multipleOf": 3}, root)

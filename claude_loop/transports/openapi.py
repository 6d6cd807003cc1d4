"""`GET /api/openapi.json`: made from the routes, their parameters and the types of their answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from claude_loop.catalogue import CATALOGUE
from claude_loop.id_rules import ID_PATTERN, MAX_ID_LENGTH, MAX_TYPE_LENGTH, TYPE_PATTERN
from claude_loop.transports.http_endpoint import Answer, Endpoint, Parameter
from claude_loop.transports.http_query import TIME

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_ERROR_STATUSES = {
    400: "The request cannot be understood.",
    401: "Nothing says who is calling.",
    403: "The caller may not do this.",
}


_YEAR_10000_MS = 253_402_300_800_000


def _ecma(pattern: str) -> str:
    """A pattern of ours as JSON Schema's dialect writes it. Surrogates are left out: text has none, and some validators
    refuse a pattern that names them, and then check nothing."""
    return pattern.replace(r"\Z", "$").replace(r"\ud800-\udfff", "")


_IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH, "pattern": _ecma(ID_PATTERN)}
# Null is as good as nothing.
_NAME = {**_IDENTIFIER, "type": ["string", "null"]}
_TEXT_OF_NAME = {rule: value for rule, value in _IDENTIFIER.items() if rule != "type"}


class ErrorDetail(TypedDict):
    """Branch on ``code``; ``message`` and ``hint`` are for people; ``field`` names the offending part."""

    code: str
    message: str
    hint: str
    field: NotRequired[str]


class ErrorAnswer(TypedDict):
    error: ErrorDetail


def describe(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """The whole description as an OpenAPI 3.1 object."""
    listed = list(endpoints)
    types = [answer.type for endpoint in listed for answer in endpoint.answers.values() if answer.type is not None]
    types += [endpoint.takes for endpoint in listed if endpoint.takes is not None]
    schemas = _Schemas([ErrorAnswer, *types])
    payloads = _payload_schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "claude-loop",
            "version": version,
            "description": "Events of unattended coding loops: publish, query and follow. docs/http.md has examples.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components | {"NewEvent": _new_event(payloads), **payloads},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """JSON Schemas of the answers' types, each named type once."""

    def __init__(self, types: Sequence[Any]) -> None:
        unique = list(dict.fromkeys(types))
        inputs = [(type_, "serialization", TypeAdapter(type_)) for type_ in unique]
        found, defined = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
        self._found = {key[0]: schema for key, schema in found.items()}
        self.components: dict[str, Any] = defined["$defs"]

    def of(self, type_: Any) -> Mapping[str, Any]:
        return self._found[type_]


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.handler.__qualname__.rpartition('.')[2]}_{_slug(endpoint)}",
        "summary": endpoint.summary,
        "parameters": [_in_path(name, endpoint) for name in _PATH_PARAMETER.findall(endpoint.path)]
        + [_in_query(parameter) for parameter in endpoint.query],
        "responses": _responses(endpoint, schemas),
        "x-needs": endpoint.access.scope or "nothing",
    }
    if endpoint.access.scope is not None:
        operation["security"] = [{"bearer": []}, {}]
    if endpoint.takes_events:
        operation["requestBody"] = _event_body()
    if endpoint.takes is not None:
        content = {"application/json": {"schema": schemas.of(endpoint.takes)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _slug(endpoint: Endpoint) -> str:
    return re.sub(r"\W+", "_", endpoint.path).strip("_") or "root"


def _in_path(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": endpoint.in_path}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    schema: Mapping[str, Any] = parameter.schema
    described: dict[str, Any] = {"name": parameter.name, "in": "query", "description": parameter.description}
    if parameter.required:
        described["required"] = True
    if parameter.repeats:
        values = {"type": "array", "items": schema, "maxItems": parameter.repeats}
        return {**described, "schema": values, "style": "form", "explode": True}
    return {**described, "schema": schema}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    responses = {str(status): _response(answer, schemas) for status, answer in endpoint.answers.items()}
    for status, text in _ERROR_STATUSES.items():
        if str(status) not in responses and (status == 400 or endpoint.access.scope is not None):
            responses[str(status)] = _response(Answer(text, ErrorAnswer), schemas)
    responses["default"] = _response(Answer("Any other failure.", ErrorAnswer), schemas)
    return responses


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    schema = {"type": "string"} if answer.type is None else schemas.of(answer.type)
    return {"description": answer.description, "content": {answer.media: {"schema": schema}}}


def _event_body() -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/NewEvent"}
    one_or_many = {"oneOf": [event, {"type": "array", "items": event}]}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": one_or_many},
            "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
        },
    }


def _new_event(payloads: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The envelope, with the payload of each known type."""
    names = ("id", "project", "prd_id", "story_id", "run_id", "session_id", "source")
    known = [
        {"if": {"properties": {"type": {"const": type_}}, "required": ["type"]}, "then": _fits(type_, payloads)}
        for type_ in CATALOGUE
    ]
    return {
        "type": "object",
        "description": "A new event. The log adds `seq` and `received_at`. Types not listed here take any `data`.",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": {"type": "string", "maxLength": MAX_TYPE_LENGTH, "pattern": _ecma(TYPE_PATTERN)},
            **dict.fromkeys(names, _NAME),
            "timestamp": {
                "anyOf": [TIME, {"type": "number", "minimum": 0, "exclusiveMaximum": _YEAR_10000_MS}, {"type": "null"}],
                "description": "RFC 3339, or seconds since the epoch (milliseconds from 10^11 up).",
            },
            "data": {"type": ["object", "null"]},
        },
        "allOf": known,
    }


def _payload_schemas() -> dict[str, Any]:
    """The `data` of each known type as a publisher sends it: what is filled in may be left out."""
    inputs = [(type_, "validation", known.adapter) for type_, known in CATALOGUE.items()]
    found, defined = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
    schemas = dict(defined.get("$defs", {}))
    for (type_, _), schema in found.items():
        resolved = dict(schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema)
        filled = _FILLED_IN | ({"total"} if "failed" in resolved["properties"] else set())
        resolved["required"] = [name for name in resolved.get("required", ()) if name not in filled]
        if {"status", "success"} <= resolved["properties"].keys():
            resolved["anyOf"] = [{"required": ["success"]}, {"required": ["status"]}]  # each gives the other
        elif "success" in resolved["properties"]:
            resolved["required"].append("success")
        if type_ == "usage.reported":
            resolved["anyOf"] = [_with_a_number(name) for name in ("cost_usd", "input_tokens", "output_tokens")]
        if CATALOGUE[type_].story != "none":
            # Where the model does not name it, text counts as a story's name and anything else as data like any other.
            name = _NAME if "story_id" in resolved["properties"] else _TEXT_OF_NAME
            resolved["properties"] = {**resolved["properties"], "story_id": name}
        schemas[_payload_name(str(type_))] = resolved
    return schemas


# Given by the envelope, or following from the other fields.
_FILLED_IN = frozenset({"status", "story_id", "success"})


def _with_a_number(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _payload_name(type_: str) -> str:
    return "data." + type_


def _fits(type_: str, payloads: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What an event of a known type needs: its ``data``, and a story in one of two places."""
    payload = payloads[_payload_name(type_)]
    data: dict[str, Any] = {"$ref": f"#/components/schemas/{_payload_name(type_)}"}
    if payload["required"] or "anyOf" in payload:
        rule: dict[str, Any] = {"required": ["data"], "properties": {"data": data}}
    else:
        rule = {"properties": {"data": {"anyOf": [data, {"type": "null"}]}}}
    if CATALOGUE[type_].story == "required":
        named = {"required": ["story_id"], "properties": {"story_id": {"type": "string"}}}
        inside = {"required": ["data"], "properties": {"data": {"type": "object", **named}}}
        rule["anyOf"] = [named, inside]
    return rule

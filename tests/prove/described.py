"""schemathesis over `/api/openapi.json`, against a real daemon.

What fits the description is taken, what does not is refused, and every answer is one that is described.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyFailure
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.prove.oracle import Violation

_ROUTE = "/api/events"
_CONFIG = {
    "checks": {"negative_data_rejection": {"expected-statuses": ["400", "404", "409", "413", "422"]}},
    # What is tried follows from the description and the seed alone, not from strings in the code.
    "analysis": {"constants": {"enabled": False}},
}
# What JSON Schema has no words for; a refusal that says one of these is no contradiction to the description.
_NOT_DESCRIBED = (
    "beyond 64 bits",
    "add up to",  # `total`
    "but `failed` is 0",
    "but the rest of the event says",  # `status` and `success`, two story ids
    "is not a time",  # a leap second, and what an offset puts before 1970
    "is no time",
    "`since` is later than `until`",
    "has no word to look for",
    "words; at most",
    "levels deep",
    "already names another event",  # small ids are drawn more than once
    "`confirm` is not the id of this PRD",
)
# Answers without an end are read by other scenarios.
_STREAMS = "/stream"


@dataclass(frozen=True)
class Target:
    """An operation of the API; publishing is one for each type of event, for a generator gets nowhere with all at once."""

    label: str
    operation: Any


def targets(url: str) -> list[Target]:
    api = requests.get(f"{url}/api/openapi.json", timeout=20).json()
    return [*_reading(api, url), *_publishing(api, url)]


def _load(api: dict[str, Any], url: str) -> Any:
    schema = schemathesis.openapi.from_dict(api, config=schemathesis.Config.from_dict(_CONFIG))
    schema.config.update(base_url=url)
    return schema


def _reading(api: dict[str, Any], url: str) -> Iterator[Target]:
    for found in _load(api, url).get_all_operations():
        operation = found.ok()
        if not operation.path.endswith(_STREAMS) and operation.label != f"POST {_ROUTE}":
            yield Target(operation.label, operation)


def _publishing(api: dict[str, Any], url: str) -> Iterator[Target]:
    rules = api["components"]["schemas"]["NewEvent"]["allOf"]
    for type_, rule in [(rule["if"]["properties"]["type"]["const"], rule["then"]) for rule in rules]:
        one = copy.deepcopy(api)
        event = one["components"]["schemas"]["NewEvent"]
        del event["allOf"]
        event["properties"] |= {"type": {"const": type_}, "data": rule["properties"]["data"]}
        if "anyOf" in rule:
            event["anyOf"] = rule["anyOf"]
        event["required"] = ["type", *rule.get("required", ())]
        publish = one["paths"][_ROUTE]["post"]
        publish["requestBody"]["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/NewEvent"}}}
        one["paths"] = {_ROUTE: {"post": publish}}
        yield Target(f"POST {_ROUTE} {type_}", _load(one, url)[_ROUTE]["POST"])


def attack(target: Target, examples: int, number: int, token: str) -> int:
    """How many requests were made, half of them fitting and half of them not. Raises ``Violation``."""
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return sum(_attack(target, mode, examples, number, token) for mode in modes)


def _attack(target: Target, mode: GenerationMode, examples: int, number: int, token: str) -> int:
    takes_nothing = not any(target.operation.iter_parameters()) and not target.operation.body
    if mode is GenerationMode.NEGATIVE and takes_nothing:
        return 0
    made = 0
    rights = {"Authorization": f"Bearer {token}"}

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=target.operation.as_strategy(generation_mode=mode))
    def attempt(case: Any) -> None:
        nonlocal made
        made += 1
        response = case.call(headers=rights, timeout=60)  # others use the machine too
        if response.status_code < 500 and any(words in response.text for words in _NOT_DESCRIBED):
            return
        # A list is a batch, which the description as a whole has, and that of one type lacks.
        batch = target.operation.path == _ROUTE and isinstance(case.body, list)
        case.validate_response(response, headers=rights, excluded_checks=[negative_data_rejection] if batch else None)

    try:
        attempt()
    except (Exception, BaseExceptionGroup) as failure:
        raise Violation(f"{target.label}: {' '.join(_told(failure).split())[:1500]}") from failure
    return made


def _told(failure: BaseException) -> str:
    """A failure that does not come again is told by what it was the first time."""
    if isinstance(failure, FlakyFailure):
        return "; ".join(_told(one) for one in failure.exceptions) + ", once"
    return str(failure)

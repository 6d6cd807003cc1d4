"""A validator for the part of JSON Schema that the API description uses; anything else in a schema is an error."""

from __future__ import annotations

import re
from typing import Any

_TYPES = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "null": lambda v: v is None,
}
# A format is a hint here, as JSON Schema has it by default.
_SAY_NOTHING = {"title", "description", "default", "$defs", "format"}
_READ_TOGETHER = {"then", "required", "additionalProperties"}


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "$") -> list[str]:
    """What is wrong with ``value``; ``root`` is the document that references point into."""
    return _Check(root).all(value, schema, path)


class _Check:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def all(self, value: Any, schema: dict[str, Any], path: str) -> list[str]:
        found = self._object_rules(value, schema, path)
        for keyword, rule in schema.items():
            if keyword in _BOUNDS:
                if not _BOUNDS[keyword](value, rule):
                    found.append(f"{path}: {value!r:.80} breaks {keyword} {rule!r:.80}")
            elif keyword not in _SAY_NOTHING | _READ_TOGETHER:
                found += getattr(self, "_" + keyword.removeprefix("$"))(value, rule, path, schema)
        return found

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the schema uses {name[1:]!r}, which this validator does not know")

    def _ref(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:
        return self.all(value, resolve(rule, self._root), path)

    def _type(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:
        names = [rule] if isinstance(rule, str) else rule
        fits = any(_TYPES[name](value) for name in names)
        return [] if fits else [f"{path}: {value!r:.80} is not {' or '.join(names)}"]

    def _anyOf(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:  # noqa: N802 - the keyword
        outcomes = [self.all(value, branch, path) for branch in rule]
        return [] if not all(outcomes) else [f"{path}: fits no branch: {[o[0] for o in outcomes]}"]

    def _oneOf(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:  # noqa: N802 - the keyword
        fitting = sum(not self.all(value, branch, path) for branch in rule)
        return [] if fitting == 1 else [f"{path}: fits {fitting} branches, not one"]

    def _allOf(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:  # noqa: N802 - the keyword
        return [problem for branch in rule for problem in self.all(value, branch, path)]

    def _if(self, value: Any, rule: Any, path: str, schema: dict[str, Any]) -> list[str]:
        return [] if self.all(value, rule, path) else self.all(value, schema["then"], path)

    def _properties(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:
        if not isinstance(value, dict):
            return []
        names = rule.keys() & value.keys()
        return [problem for name in names for problem in self.all(value[name], rule[name], f"{path}.{name}")]

    def _items(self, value: Any, rule: Any, path: str, _schema: Any) -> list[str]:
        items = value if isinstance(value, list) else []
        return [problem for n, item in enumerate(items) for problem in self.all(item, rule, f"{path}[{n}]")]

    def _object_rules(self, value: Any, schema: dict[str, Any], path: str) -> list[str]:
        if not isinstance(value, dict):
            return []
        found = [f"{path}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        more = schema.get("additionalProperties", True)
        for name in value.keys() - schema.get("properties", {}).keys():
            if more is False:
                found.append(f"{path}: {name} is not foreseen")
            elif isinstance(more, dict):
                found += self.all(value[name], more, f"{path}.{name}")
        return found


def resolve(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    """The object at ``#/a/b``. Raises ``KeyError``."""
    target: Any = root
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target


def references(schema: Any) -> list[str]:
    """All references in a document."""
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [ref for part in schema.values() for ref in references(part)]
    if isinstance(schema, list):
        return [ref for part in schema for ref in references(part)]
    return []


_BOUNDS = {
    "enum": lambda v, values: v in values,
    "const": lambda v, constant: v == constant,
    "minLength": lambda v, n: not isinstance(v, str) or len(v) >= n,
    "maxLength": lambda v, n: not isinstance(v, str) or len(v) <= n,
    "pattern": lambda v, p: not isinstance(v, str) or re.search(p, v) is not None,
    "minimum": lambda v, n: not isinstance(v, int | float) or v >= n,
    "maximum": lambda v, n: not isinstance(v, int | float) or v <= n,
    "exclusiveMaximum": lambda v, n: not isinstance(v, int | float) or v < n,
    "minItems": lambda v, n: not isinstance(v, list) or len(v) >= n,
    "maxItems": lambda v, n: not isinstance(v, list) or len(v) <= n,
}

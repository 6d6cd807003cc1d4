"""What is wrong with a setting, in a sentence: where it stands, what it must be, and what was perhaps meant.

Values are never repeated: among them are passwords.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from claude_loop.errors import SettingsRefused

SETTINGS_LISTED = "docs/settings.md lists every setting with its values."
# Of pydantic's kinds of error, those whose text is ours: raised by a validator of a model.
_OURS = "value_error"
_NO_NAME = "extra_forbidden"
# How alike a name must be to be taken for a slip.
_ALIKE = 0.6
# What a variable of this kind looks like.
_JSON = {"array": '["…"]', "object": '{"…": …}'}

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from, first what wins. ``environ`` has its names in capitals, ``file`` is what was parsed."""

    flags: Mapping[str, Any]
    environ: Mapping[str, str]
    path: Path
    file: Mapping[str, Any]

    def of(self, place: Place, name: str) -> str:
        """How a sentence begins about the setting at ``place``, which people know by ``name``."""
        if _reaches(self.flags, place):
            return f"The setting {name}"
        # A table may be given whole, as JSON, or each of its settings by itself.
        for length in range(len(place), 0, -1):
            variable = variable_of(place[:length])
            if variable in self.environ and _holds(self.environ[variable], place[length:]):
                return variable if length == len(place) else f"{variable}: {name}"
        # What is missing is in none; the table that lacks it is.
        return f"{self.path}: {name}" if _reaches(self.file, place[:-1] or place) else f"The setting {name}"


class Words:
    """Sentences about the settings that ``schema``, JSON Schema, describes."""

    def __init__(self, schema: Mapping[str, Any], sources: Sources) -> None:
        self._schema = schema
        self._sources = sources

    def refusal(self, errors: Sequence[ErrorDetails]) -> SettingsRefused:
        """For the first of ``errors``, but rather for a slip in a name: what it meant to set may be missing for it."""
        first = min(errors, key=lambda error: error["type"] != _NO_NAME)
        place, kind, others = first["loc"], first["type"], len(errors) - 1
        more = f" {others} more {'is' if others == 1 else 'are'} wrong." if others else ""
        if kind == _NO_NAME:
            return self.unknown(place, more)
        if kind == _OURS:
            said = f"{self._where(place)}: {first['msg'].removeprefix('Value error, ')}."
        elif kind == "missing":
            said = f"{self._where(place)} is missing: it must be {self.must_be(place)}."
        else:
            said = f"{self._where(place)} must be {self.must_be(place)}."
        return _refused(said, place, more)

    def unknown(self, place: Place, more: str = "") -> SettingsRefused:
        """For a name that no setting has."""
        near = self._nearest(place)
        meant = f"Did you mean {near}? " if near else ""
        return _refused(f"{self._where(place)} is no setting.", place, more, meant)

    def no_json(self) -> SettingsRefused | None:
        """For the first variable whose text is to be JSON, and is none."""
        for name, inner in self._schema["properties"].items():
            variable, kind = variable_of((name,)), self._resolved(inner).get("type")
            if kind in _JSON and variable in self._sources.environ and not _is_json(self._sources.environ[variable]):
                said = f"{variable} must be {self.must_be((name,))}, written as JSON, like {_JSON[kind]}."
                return _refused(said, (name,))
        return None

    def must_be(self, place: Place) -> str:
        return _words(self._resolved(self._at(place)), place, self._resolved)

    def _where(self, place: Place) -> str:
        return self._sources.of(place, self._shown(place))

    def _shown(self, place: Place) -> str:
        """As it is found in the file; people count the first as 1."""
        if len(place) > 1 and isinstance(place[1], int) and self._resolved(self._at(place[:2])).get("type") == "object":
            rest = f": {_entry(place[2:])}" if place[2:] else ""
            return f"[[{place[0]}]] {place[1] + 1}{rest}"
        return _entry(place)

    # -- the schema ------------------------------------------------------------------------------------------------

    def _at(self, place: Place) -> Mapping[str, Any]:
        node: Mapping[str, Any] = self._schema
        for step in place:
            node = self._resolved(node)
            # Beyond what is described: pydantic names the variant of a union, too.
            found = node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
            node = node if found is None else found
        return node

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" in node:
            found: Mapping[str, Any] = self._schema["$defs"][node["$ref"].rpartition("/")[2]]
            return found
        variants = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
        return self._resolved(variants[0]) if variants else node

    def _nearest(self, place: Place) -> str:
        """The name of the setting that was perhaps meant, best among its neighbours, else anywhere; empty for none."""
        wrong = str(place[-1])
        beside = self._resolved(self._at(place[:-1])).get("properties", {})
        for name in difflib.get_close_matches(wrong, beside, n=1, cutoff=_ALIKE):
            return _dotted((*place[:-1], name))
        everywhere = {path[-1]: path for path in self._paths(self._schema)}
        for name in difflib.get_close_matches(wrong, everywhere, n=1, cutoff=_ALIKE):
            return _dotted(everywhere[name])
        return ""

    def _paths(self, node: Mapping[str, Any], before: Place = ()) -> Iterator[tuple[str, ...]]:
        for name, inner in self._resolved(node).get("properties", {}).items():
            path = (*map(str, before), name)
            yield path
            yield from self._paths(inner, path)


def variable_of(place: Place) -> str:
    return "CLAUDE_LOOP_" + "__".join(map(str, place)).upper()


def _refused(said: str, place: Place, more: str = "", meant: str = "") -> SettingsRefused:
    return SettingsRefused(said + more, field=_dotted(place), hint=meant + SETTINGS_LISTED)


def _entry(place: Place) -> str:
    last = place[-1]
    return f"entry {last + 1} of {_dotted(place[:-1])}" if isinstance(last, int) else _dotted(place)


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _reaches(given: Any, place: Place) -> bool:
    for step in place:
        try:
            given = given[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _words(node: Mapping[str, Any], place: Place, resolved: Any) -> str:
    """What a value must be, in words."""
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if node.get("type") == "array":
        return _list_words(node, place, resolved)
    if "pattern" in node:
        return f"text that matches {node['pattern']}"
    return {
        "integer": f"a whole number{_range(node)}",
        "number": f"a number{_range(node)}",
        "boolean": "true or false",
        "object": f"a table, [{_dotted(place)}]",
    }.get(node.get("type", ""), "a path, as text" if node.get("format") == "path" else "text")


def _list_words(node: Mapping[str, Any], place: Place, resolved: Any) -> str:
    items = resolved(node.get("items", {}))
    most = f", at most {node['maxItems']}" if "maxItems" in node else ""
    if items.get("type") == "object":
        return f"a list of tables, [[{_dotted(place)}]]{most}"
    return f"a list of some of {', '.join(items['enum'])}{most}" if "enum" in items else f'a list of text, ["…"]{most}'


def _range(node: Mapping[str, Any]) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:.0f}"
    above, upto = node.get("exclusiveMinimum"), "" if most is None else f", at most {most:.0f}"
    if above is not None:
        return f" above {above:g}{upto}"
    return f", at least {least:g}{upto}" if least is not None else upto


def _holds(text: str, rest: Place) -> bool:
    """Whether a variable, which holds a whole table as JSON, has the setting itself or the table that lacks it."""
    if not rest:
        return True
    try:
        return _reaches(json.loads(text), rest[:-1] or rest)
    except ValueError:
        return True  # then it is the text that is wrong


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

"""Which events a reader wants. Values within a key are alternatives; keys must all hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

from claude_loop.errors import InvalidFilter
from claude_loop.events import Event

MAX_VALUES = 100
MAX_VALUE_LENGTH = 128
# To prepare a hundred of many stars takes the better part of a second, in which nobody else is served.
MAX_STARS = 16
_GLOB_CHARACTERS = re.compile(r"[*?]")


def is_glob(pattern: str) -> bool:
    return _GLOB_CHARACTERS.search(pattern) is not None


def glob_to_regex(pattern: str) -> str:
    """``*`` is any run of characters, dots too; ``?`` is one. Nothing else is special.

    Each run of fixed text after a ``*`` is sought once, at its first place, in an atomic group: were the matcher free
    to try later places too, a pattern of a few stars would keep it busy for minutes.
    """
    first, *others = [_fixed(part) for part in re.split(r"\*+", pattern)]
    if not others:
        return first
    sought = "".join(f"(?>.*?{part})" for part in others[:-1])
    return f"{first}{sought}.*{others[-1]}"


def _fixed(part: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in part)


def _key(attribute: str, selects: str) -> Any:
    """A key of the filter: the event's attribute, which is the parameter in a URL too, and what it selects."""
    return field(default=(), metadata={"attribute": attribute, "selects": selects})


@dataclass(frozen=True)
class Filter:
    """An immutable filter; the empty one matches everything.

    ``or_without_prd`` widens ``prd_ids`` to events that belong to no PRD: what `subscribe_prd` promises.
    """

    projects: tuple[str, ...] = _key("project", "Events of this project.")
    prd_ids: tuple[str, ...] = _key("prd_id", "Events of this PRD.")
    story_ids: tuple[str, ...] = _key("story_id", "Events of this story.")
    types: tuple[str, ...] = _key(
        "type", f"Events of this type; `*` stands for any characters, at most {MAX_STARS} times, `?` for one."
    )
    session_ids: tuple[str, ...] = _key("session_id", "Events of this agent session.")
    run_ids: tuple[str, ...] = _key("run_id", "Events of this run.")
    sources: tuple[str, ...] = _key("source", "Events from this source, such as `bash` or `http`.")
    or_without_prd: bool = False

    @classmethod
    def parse(cls, raw: object) -> Filter:
        """A filter from ``{"types": [...], ...}``; a lone string counts as a list of one, null as absent.

        Raises ``InvalidFilter`` naming the key.
        """
        if raw is None:
            return MATCH_ALL
        if not isinstance(raw, Mapping):
            raise InvalidFilter("`filter` must be an object.", field="filter", hint=_HINT)
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in FILTER_KEYS:
                raise InvalidFilter(
                    f"`{str(key)[:60]}` is not a filter key.", field=f"filter.{str(key)[:60]}", hint=_HINT
                )
            values[key] = _strings(key, value)
        return cls(**values)

    def matches(self, event: Event) -> bool:
        if self.types and not self._type_matches(event.type):
            return False
        if self.prd_ids and event.prd_id not in self.prd_ids and not (self.or_without_prd and event.prd_id is None):
            return False
        return all(getattr(event, attribute) in wanted for attribute, wanted in self._exact)

    def select(self, events: list[Event]) -> list[Event]:
        """Those that match, in order. Of a batch each type is looked at once: most readers want few of them."""
        if self.is_empty:
            return events
        if self.types:
            types = {type_ for type_ in {event.type for event in events} if self._type_matches(type_)}
            if not types:
                return []
            events = [event for event in events if event.type in types]
            if self._is_of_types_alone:
                return events
        return [event for event in events if self.matches(event)]

    def _type_matches(self, type_: str) -> bool:
        return type_ in self._exact_types or (self._globs is not None and self._globs.fullmatch(type_) is not None)

    @cached_property
    def _exact_types(self) -> frozenset[str]:
        return frozenset(type_ for type_ in self.types if not is_glob(type_))

    @cached_property
    def _globs(self) -> re.Pattern[str] | None:
        globs = [glob_to_regex(type_) for type_ in self.types if is_glob(type_)]
        return re.compile("|".join(globs), re.DOTALL) if globs else None

    @cached_property
    def _exact(self) -> tuple[tuple[str, frozenset[str]], ...]:
        pairs = ((key, getattr(self, key.name)) for key in FILTER_KEYS.values() if key.name not in ("types", "prd_ids"))
        return tuple((key.attribute, frozenset(wanted)) for key, wanted in pairs if wanted)

    @cached_property
    def _is_of_types_alone(self) -> bool:
        return not self.prd_ids and not self._exact

    @cached_property
    def key(self) -> str:
        """A short name that equal filters share, so that their readers share encoded frames."""
        canonical = repr(
            [(f.name, sorted(v) if isinstance(v := getattr(self, f.name), tuple) else v) for f in fields(self)]
        )
        return blake2b(canonical.encode(), digest_size=8).hexdigest()

    @cached_property
    def is_empty(self) -> bool:
        return self == MATCH_ALL


class FilterKey(NamedTuple):
    """``attribute`` is the event's, and the parameter in a URL; ``selects`` says in words what a value selects."""

    name: str
    attribute: str
    selects: str


FILTER_KEYS = {
    f.name: FilterKey(f.name, f.metadata["attribute"], f.metadata["selects"]) for f in fields(Filter) if f.metadata
}
_HINT = f"Keys are {', '.join(FILTER_KEYS)}; each a list of strings."
MATCH_ALL = Filter()


def _strings(key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise InvalidFilter(f"`{key}` must be a list of strings.", field=f"filter.{key}")
    if len(items) > MAX_VALUES:
        raise InvalidFilter(f"`{key}` has {len(items)} values; at most {MAX_VALUES} are taken.", field=f"filter.{key}")
    if any(not item or len(item) > MAX_VALUE_LENGTH for item in items):
        raise InvalidFilter(f"Values of `{key}` have 1 to {MAX_VALUE_LENGTH} characters.", field=f"filter.{key}")
    if key == "types" and any(item.count("*") > MAX_STARS for item in items):
        raise InvalidFilter(f"A value of `types` has at most {MAX_STARS} `*`.", field="filter.types")
    return tuple(dict.fromkeys(items))

"""What one HTTP route is: where it hangs, what it needs, what it takes and answers. Parsing and the API description
are made of the same parameters, so they cannot disagree."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from claude_loop.transports.gate import Access

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter. ``repeats``: it may be given so many times, its values being alternatives. ``schema`` is JSON
    Schema."""

    name: str
    description: str
    repeats: int = 0
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer: a JSON type (a TypedDict, or a list of them), or a media type without a schema."""

    description: str
    type: Any = None
    media: str = "application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path. ``takes`` is the JSON type of its body, if it has one. ``streams`` marks an answer
    without end, which HEAD cannot have."""

    method: str
    path: str
    access: Access
    handler: Handler
    answers: Mapping[int, Answer]
    query: tuple[Parameter, ...] = ()
    takes_events: bool = False
    takes: Any = None
    streams: bool = False
    #: JSON Schema of what stands in the path.
    in_path: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})

    @property
    def name(self) -> str:
        """As the gate's table has it."""
        return f"{self.method} {self.path}"

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().partition("\n")[0]

    def route(self) -> web.RouteDef:
        options = {"allow_head": not self.streams} if self.method == "GET" else {}
        # By itself a part that varies may be anything but braces, which an id may have.
        return web.RouteDef(self.method, self.path.replace("}", ":[^/]+}"), self.handler, options)

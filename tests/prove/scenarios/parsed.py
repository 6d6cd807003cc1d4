"""Hostile input handed to the parsers themselves, without a daemon around them: many more in a second than over a socket."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any

import orjson

from claude_loop.clock import SystemClock
from claude_loop.errors import ClaudeLoopError, InvalidJson
from claude_loop.filters import Filter
from claude_loop.ids import Cursor
from claude_loop.intake.accept import Acceptor
from claude_loop.settings import LimitSettings, RedactSettings
from claude_loop.subscription import Start
from tests.prove.hostile import Hostile
from tests.prove.oracle import Violation
from tests.prove.world import World

_CURSOR = "0123456789abcdef.42.0123456789"


async def parsers(world: World) -> None:
    """Hostile lines, filters, cursors and hooks for the parsers alone: each is taken or refused, none breaks one."""
    parsing = Parsing(world.dice)
    wanted = world.inputs or world.pick(4_000, 1_000_000)
    for first in range(0, wanted, 2_000):
        await asyncio.to_thread(parsing.parse, min(2_000, wanted - first))
    world.count(parsed=wanted, refused=parsing.refused, **{f"parsed_{name}": n for name, n in parsing.parsed.items()})


class Parsing:
    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._hostile = Hostile(dice, {"paths": {}})
        self._acceptor = Acceptor(LimitSettings(), RedactSettings(), SystemClock())
        self.parsed: Counter[str] = Counter()
        self.refused = 0

    def parse(self, count: int) -> None:
        """Raises ``Violation`` for whatever is no refusal of ours."""
        for _ in range(count):
            name = self._dice.choice(("lines", "lines", "spooled", "spooled", "filters", "cursors", "hooks"))
            self.parsed[name] += 1
            given: Any = getattr(self, f"_make_{name}")()
            try:
                getattr(self, f"_parse_{name}")(given)
            except ClaudeLoopError:
                self.refused += 1
            except Violation:
                raise
            except Exception as failure:
                raise Violation(f"{name}: {failure!r} for {given!r:.500}") from failure

    def _make_lines(self) -> bytes:
        return self._hostile.line()

    def _parse_lines(self, line: bytes) -> None:
        event = self._acceptor.accept_line(line, source="http")
        _is_itself(event.json, event.type)

    def _make_spooled(self) -> bytes:
        return self._hostile.line()

    def _parse_spooled(self, line: bytes) -> None:
        """Of what the spool holds, where nobody hears an answer, only what is no JSON object may be refused."""
        try:
            made, _ = self._acceptor.salvage_line(line, derived_id="derived.1", source="spool")
        except ClaudeLoopError as refusal:
            if not isinstance(refusal, InvalidJson):
                raise Violation(f"a spooled line is refused: {refusal!r} for {line!r:.300}") from refusal
            raise
        for event in made if isinstance(made, list) else (made,):
            _is_itself(event.json, event.type)

    def _make_hooks(self) -> bytes:
        return self._hostile.hook()

    _parse_hooks = _parse_spooled

    def _make_filters(self) -> Any:
        return self._hostile.filter()

    def _parse_filters(self, raw: Any) -> None:
        wanted = Filter.parse(raw)
        if Filter.parse(json.loads(json.dumps(raw))).key != wanted.key:
            raise Violation(f"one filter has two keys: {raw!r:.300}")

    def _make_cursors(self) -> Any:
        return self._hostile.start(_CURSOR)

    def _parse_cursors(self, raw: Any) -> None:
        start = Start.parse(raw)
        if start.cursor is not None and Cursor.parse(str(start.cursor)) != start.cursor:
            raise Violation(f"a cursor is not what it says: {raw!r:.300}")


def _is_itself(stored: bytes, type_: str) -> None:
    if orjson.loads(stored)["type"] != type_:
        raise Violation(f"an event is stored as another: {stored!r:.300}")

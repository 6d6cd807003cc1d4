"""Scanners with simple rules, in place of those of `formats`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from claude_loop.formats.agent_usage import usage_of


@dataclass(frozen=True)
class Banner:
    iteration: int
    max_iterations: int | None


@dataclass(frozen=True)
class Promise:
    text: str


@dataclass(frozen=True)
class Limit:
    reason: str
    until_ms: int | None


class SimpleScanners:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.blocks: list[str] = []

    def line(self, text: str, now_ms: int) -> object:
        del now_ms
        self.lines.append(text)
        if match := re.search(r"Iteration (\d+) of (\d+)", text):
            return Banner(int(match[1]), int(match[2]))
        if match := re.search(r"<promise>(.*)</promise>", text):
            return Promise(match[1])
        if "usage limit reached" in text:
            return Limit("usage limit reached", 1_800_000_000_000)
        return None

    def usage(self, text: str) -> object:
        return usage_of(text)

    def tests(self, text: str) -> dict[str, Any] | None:
        self.blocks.append(text)
        found = re.findall(r"(?:(\d+) failed, )?(\d+) passed in", text)
        if not found:
            return None
        failures = [{"name": name} for name in re.findall(r"FAILED (\S+)", text)]
        return {"passed": int(found[-1][1]), "failed": int(found[-1][0] or 0), "failures": failures, "runner": "pytest"}

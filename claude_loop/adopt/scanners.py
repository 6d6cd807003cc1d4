"""The parsers of `formats`, as the follower of output uses them."""

from __future__ import annotations

from typing import Any

from claude_loop.formats.agent_usage import Thread, Usage, usage_of
from claude_loop.formats.loop_output import Banner, Promise, UsageLimit, scan
from claude_loop.formats.test_summaries import summarize


class LoopScanners:
    """Implements ``findings.Scanners``."""

    def line(self, text: str, now_ms: int) -> Banner | Promise | UsageLimit | None:
        return scan(text, now_ms)

    def usage(self, text: str) -> Usage | Thread | None:
        return usage_of(text)

    def tests(self, text: str) -> dict[str, Any] | None:
        return summarize(text)

"""What one summary of a test runner says, in the keys of `test.run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST_FAILURES = 50
LONGEST_NAME = 300
LONGEST_MESSAGE = 500


@dataclass(slots=True)
class Counts:
    runner: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    duration_ms: float | None = None
    # A name is reported once, however often the runner repeats it.
    failures: dict[str, str] = field(default_factory=dict)

    def fail(self, name: str, message: str = "") -> None:
        name = name.strip()[:LONGEST_NAME]
        if name and (name in self.failures or len(self.failures) < MOST_FAILURES):
            self.failures[name] = self.failures.get(name) or message.strip()[:LONGEST_MESSAGE]

    def summary(self) -> dict[str, Any]:
        known: dict[str, Any] = {
            "passed": self.passed,
            "failed": self.failed,
            "skipped": self.skipped,
            "total": self.passed + self.failed + self.skipped,
            "failures": [
                {"name": name, "message": message} if message else {"name": name}
                for name, message in self.failures.items()
            ],
            "runner": self.runner,
        }
        if self.duration_ms is not None:
            known["duration_ms"] = self.duration_ms
        return known


@dataclass(frozen=True, slots=True)
class Found:
    """A complete summary and the line that it ends on: of several runners' the last one counts."""

    line: int
    counts: Counts

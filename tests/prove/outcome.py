"""What came of one run of a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["PASS", "FAIL", "SKIP"]


@dataclass(frozen=True)
class Outcome:
    scenario: str
    seed: int
    verdict: Verdict
    seconds: float
    counts: dict[str, int]
    reason: str = ""
    details: str = ""
    #: It failed because an invariant did not hold, not because something took too long or broke down.
    violated: bool = False

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {figure}" for name, figure in self.counts.items())
        line = f"{self.verdict}  {self.scenario:<10} seed {self.seed:<6} {self.seconds:6.1f} s  {figures}"
        return f"{line}\n      {self.reason}" if self.reason else line

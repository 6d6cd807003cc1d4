"""What runs of `bin/prove` came to, kept as JSON lines in a file, and docs/reliability.md written from such files.

A record may be gathered from many runs: the long set takes hours. Each line says which build it is of.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.serving import machine
from claude_loop.build import full_version
from tests.prove.catalogue import SCENARIOS
from tests.prove.mutants import MUTANTS
from tests.prove.outcome import Outcome
from tests.prove.world import Size
from tests.support import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
_EXPLANATION = ROOT / "docs" / "proof.md"
_PREAMBLE = """# Reliability

What `bin/prove` found, written by `bin/prove --record` from the results of real runs and by nothing else. What each
scenario does to the daemon, what must hold and how it is judged is told in [proof.md](proof.md).
"""
_TOLD = """Figures are sums over the runs of a row that passed; `short` and `long` are the sets of `bin/prove --set`. In the last
column, what is a size and no number of times is the largest that was seen.
"""
# Figures with a column of their own; those that only one scenario has go into its last one.
_COLUMNS = ("kills", "acknowledged", "spooled", "delivered", "duplicates", "resets")
# Not added up over runs: how large something was, not how often.
_LEVELS = frozenset(
    {
        "grown_kb",
        "live_kb",
        "live_objects",
        "slow_ms",
        "alone_ms",
        "fds",
        "threads",
        "tasks",
        "mb",
        "readers",
        "connected",
        "labels",
    }
)


@dataclass(frozen=True)
class Result:
    """One run of one scenario. ``mutant``: the defect that was put into the daemon for it."""

    scenario: str
    seed: int
    size: Size
    verdict: str
    seconds: float
    counts: Mapping[str, int]
    reason: str = ""
    violated: bool = False
    mutant: str = ""
    build: str = ""
    machine: str = ""
    at: str = ""
    #: Of the machine, over the last minute, as the run ended; none in older files.
    load: float | None = None


@dataclass
class Results:
    """Appends to ``file``, a line as each run ends: one that is broken off keeps what it had."""

    file: Path | None
    size: Size
    _build: str = field(default_factory=full_version)
    _machine: str = field(default_factory=lambda: machine().rpartition(", load")[0])

    def add(self, outcome: Outcome, mutant: str = "") -> None:
        if self.file is None:
            return
        told = {name: value for name, value in asdict(outcome).items() if name != "details"}
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
        result = Result(
            **told,
            size=self.size,
            mutant=mutant,
            build=self._build,
            machine=self._machine,
            at=at,
            load=round(os.getloadavg()[0], 1),
        )
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")


def read(files: Iterable[Path]) -> list[Result]:
    return [Result(**json.loads(line)) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def write(files: Iterable[Path]) -> None:
    DOCUMENT.write_text(document(read(files)), encoding="utf-8")


def document(results: Sequence[Result]) -> str:
    plain = [one for one in results if not one.mutant]
    parts = [
        _PREAMBLE,
        _origin(results),
        "## In short\n",
        _targets(plain, [one for one in results if one.mutant]),
        "## What failed\n",
        _failures(plain),
        "## Scenarios\n",
        _TOLD,
        _scenarios(plain),
        "## Mutants\n",
        _mutants([one for one in results if one.mutant]),
        "## What is not proved\n",
        _not_proved(plain),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _origin(results: Sequence[Result]) -> str:
    days = sorted({one.at[:10] for one in results})
    builds = Counter(one.build for one in results)
    hours = sum(one.seconds for one in results) / 3600
    told = ", ".join(f"`{build}` ({count})" for build, count in sorted(builds.items()))
    loads = [one.load for one in results if one.load is not None]
    busy = f" Load of the machine: {min(loads)} to {max(loads)}." if loads else ""
    return (
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, {'; '.join(sorted({one.machine for one in results}))}.\n"
        f"{len(results)} runs of a scenario, {hours:.1f} hours of them. Build (runs): {told}.{busy}\n"
    )


def _targets(plain: Sequence[Result], mutated: Sequence[Result]) -> str:
    runs = [[one.violated for one in mutated if one.mutant == each.name] for each in MUTANTS]
    caught = sum(bool(each) and all(each) for each in runs)
    rows = (
        ("daemons killed by SIGKILL, nothing lost, doubled or left out in silence", _sum(plain, "kills"), 2_000),
        ("– of them by scenario `kill`, at random moments", _sum(plain, "kills", "kill"), None),
        ("hostile inputs sent to the daemon, no 5xx, no growth", _sum(plain, "inputs", "fuzz"), 1_000_000),
        ("resumptions of one reader", _top(plain, "resumptions", "resume"), 10_000),
        ("readers that come back at once", _top(plain, "readers", "crowd"), 1_000),
        ("seeds with which every scenario of the short set passed", _green_seeds(plain, "short"), 3),
        ("– of the long set", _green_seeds(plain, "long"), 3),
        ("mutants caught", caught, len(MUTANTS)),
    )
    lines = ["| | counted | to reach | |", "|---|---:|---:|---|"]
    for name, figure, target in rows:
        mark = "" if target is None else "reached" if figure >= target else "**missed**"
        lines.append(f"| {name} | {figure:,} | {'' if target is None else f'{target:,}'} | {mark} |")
    return "\n".join(lines) + "\n"


def _green_seeds(plain: Sequence[Result], size: str) -> int:
    """A seed with which a run failed is none, whatever another run of it did."""
    green = []
    for each in SCENARIOS:
        if each.short or size == "long":
            runs = [one for one in plain if one.scenario == each.name and one.size == size]
            failed = {one.seed for one in runs if one.verdict == "FAIL"}
            green.append({one.seed for one in runs if _green(one)} - failed)
    return len(set.intersection(*green))


def _green(one: Result) -> bool:
    return one.verdict == "PASS"


def _sum(results: Sequence[Result], name: str, scenario: str = "") -> int:
    """Of runs that passed: what a broken one counted is no evidence."""
    return sum(one.counts.get(name, 0) for one in results if _green(one) and scenario in ("", one.scenario))


def _top(results: Sequence[Result], name: str, scenario: str) -> int:
    return max((one.counts.get(name, 0) for one in results if _green(one) and one.scenario == scenario), default=0)


def _failures(plain: Sequence[Result]) -> str:
    failed = [one for one in plain if one.verdict == "FAIL"]
    if not failed:
        return "Nothing: no run of any scenario.\n"
    return "".join(
        f"- `{one.scenario}`, {one.size}, seed {one.seed}, build `{one.build}`: {_in_brief(one.reason)}\n"
        for one in failed
    )


def _in_brief(reason: str) -> str:
    """In one line, without a daemon's traceback, which is about the machine's folders."""
    return " ".join(reason.partition(" exception=")[0].split())[:300]


def _scenarios(plain: Sequence[Result]) -> str:
    heads = ("scenario", "set", "runs", "passed", "seeds", *_COLUMNS, "beside")
    lines = ["| " + " | ".join(heads) + " |", "|---|---" + "|---:" * (2 + len(_COLUMNS) + 1) + "|---|"]
    for scenario in SCENARIOS:
        for size in ("short", "long"):
            ran = [one for one in plain if (one.scenario, one.size) == (scenario.name, size)]
            if ran:
                lines.append(_row(ran))
    return "\n".join(lines) + "\n"


def _row(ran: Sequence[Result]) -> str:
    green = [one for one in ran if _green(one)]
    sums: Counter[str] = Counter()
    for one in green:
        sums.update({name: figure for name, figure in one.counts.items() if name not in _LEVELS})
    tops = {name: _top(ran, name, ran[0].scenario) for one in green for name in one.counts if name in _LEVELS}
    beside = {name: figure for name, figure in (sums | tops).items() if name not in (*_COLUMNS, "stored") and figure}
    cells = [
        *(f"`{ran[0].scenario}`", ran[0].size, f"{len(ran)}", f"{len(green)}", _spans([one.seed for one in ran])),
        *(f"{sums[name]:,}" if sums[name] else "" for name in _COLUMNS),
        ", ".join(f"{name} {figure:,}" for name, figure in beside.items()),
    ]
    return "| " + " | ".join(cells) + " |"


def _spans(seeds: Iterable[int]) -> str:
    """Numbers as people write them: 1–3, 7."""
    spans: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(f"{low}" if low == high else f"{low}–{high}" for low, high in spans)


def _mutants(mutated: Sequence[Result]) -> str:
    lines = ["| mutant | scenario | runs | caught | seeds | what gave it away |", "|---|---|---:|---:|---:|---|"]
    for mutant in MUTANTS:
        ran = [one for one in mutated if one.mutant == mutant.name]
        caught = [one for one in ran if one.violated]
        # Ids and what follows them say nothing without the run.
        said = caught[0].reason.removeprefix("violated: ").partition(": ")[0][:120] if caught else "**nothing**"
        lines.append(
            f"| `{mutant.name}` | `{mutant.caught_by}` | {len(ran)} | {len(caught)} | "
            f"{_spans(one.seed for one in ran)} | {said.replace('|', ' ')} |"
        )
    return "\n".join(lines) + "\n"


def _not_proved(plain: Sequence[Result]) -> str:
    lines: list[str] = []
    short: list[str] = []
    for scenario in SCENARIOS:
        ran = [one for one in plain if one.scenario == scenario.name]
        if skipped := sorted({one.reason for one in ran if one.verdict == "SKIP"}):
            lines.append(f"- `{scenario.name}` was skipped: {'; '.join(skipped)}.")
        elif not any(_green(one) for one in ran):
            lines.append(f"- `{scenario.name}` has no run that passed.")
        elif not any(_green(one) and one.size == "long" for one in ran):
            short.append(f"`{scenario.name}`")
    if short:
        lines.append(f"- In their short form only ran {', '.join(short)}.")
    limits = _EXPLANATION.read_text(encoding="utf-8").partition("## What it does not show\n")[2].partition("\n## ")[0]
    return "\n".join(lines) + "\n" * bool(lines) + limits.strip() + "\n"

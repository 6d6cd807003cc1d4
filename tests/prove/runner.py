"""Runs scenarios and says what came of each, in figures."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter

from tests.nursery import Nurse
from tests.prove.catalogue import BY_NAME, Scenario
from tests.prove.mutants import Mutant
from tests.prove.oracle import Violation
from tests.prove.outcome import Outcome, Verdict
from tests.prove.record import Results
from tests.prove.world import Size, Skipped, World


async def play(
    scenario: Scenario, seed: int, size: Size, nurse: Nurse | None, mutant: str | None = None, inputs: int = 0
) -> Outcome:
    world = World(scenario.name, seed, size, mutant, inputs, nurse)
    started = time.monotonic()
    verdict: Verdict = "PASS"
    reason = details = ""
    violated = False
    try:
        async with asyncio.timeout(scenario.limit * (1 if size == "short" else 10)):
            await scenario.play(world)
    except Skipped as why:
        verdict, reason = "SKIP", str(why)
    except TimeoutError as failure:
        verdict, reason, details = "FAIL", f"not within its time: {failure}", traceback.format_exc()
    except Violation as violation:
        verdict, reason, details, violated = "FAIL", f"violated: {violation}", traceback.format_exc(), True
    except Exception as failure:  # noqa: BLE001 - whatever it is, the scenario did not show what it is to show
        verdict, reason, details = "FAIL", f"{type(failure).__name__}: {failure}", traceback.format_exc()
    finally:
        if details:
            details += world.last_words()
        await world.close()
    return Outcome(scenario.name, seed, verdict, time.monotonic() - started, world.counts, reason, details, violated)


async def play_all(
    scenarios: list[Scenario],
    seeds: list[int],
    results: Results,
    nurse: Nurse | None,
    *,
    jobs: int = 2,
    inputs: int = 0,
    verbose: bool = False,
) -> list[Outcome]:
    """``jobs`` at a time: most of a scenario is waiting."""
    turn = asyncio.Semaphore(jobs)

    async def one(scenario: Scenario, seed: int) -> Outcome:
        async with turn:
            outcome = await play(scenario, seed, results.size, nurse, inputs=inputs)
        results.add(outcome)
        print(outcome, flush=True)
        if verbose and outcome.details:
            print(outcome.details, flush=True)
        return outcome

    outcomes = await asyncio.gather(*(one(scenario, seed) for seed in seeds for scenario in scenarios))
    print(summary(outcomes), flush=True)
    return outcomes


def succeeded(outcomes: list[Outcome], *, all_required: bool) -> bool:
    """Nothing failed; where all are required, nothing was left out either."""
    bad = {"FAIL", "SKIP"} if all_required else {"FAIL"}
    return not any(outcome.verdict in bad for outcome in outcomes)


def summary(outcomes: list[Outcome]) -> str:
    totals: Counter[str] = Counter()
    for outcome in outcomes:
        totals.update({name: outcome.counts.get(name, 0) for name in World.COUNTED})
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    said = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("PASS", "FAIL", "SKIP") if verdicts[verdict])
    line = f"{said}: " + ", ".join(f"{name} {figure}" for name, figure in totals.items())
    return "\n".join([line, *_left_out(outcomes)])


def _left_out(outcomes: list[Outcome]) -> list[str]:
    """As the tests list theirs: the reason, and below it what could not run."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.verdict == "SKIP":
            seeds.setdefault((outcome.reason, outcome.scenario), []).append(str(outcome.seed))
    lines = ["", "Not run:"] if seeds else []
    reasons = {}
    for (reason, scenario), numbers in seeds.items():
        reasons.setdefault(reason, []).append(f"    {scenario}, seed {', '.join(numbers)}")
    for reason, scenarios in sorted(reasons.items()):
        lines += [f"- {reason}", *scenarios]
    return lines


async def play_mutants(
    mutants: list[Mutant],
    seeds: list[int],
    results: Results,
    nurse: Nurse | None,
    *,
    jobs: int = 2,
    verbose: bool = False,
) -> bool:
    """Whether each was caught by the scenario it names, by a violation rather than by breaking down."""
    turn = asyncio.Semaphore(jobs)

    async def caught(mutant: Mutant, seed: int) -> bool:
        async with turn:
            outcome = await play(BY_NAME[mutant.caught_by], seed, "short", nurse, mutant.name)
        results.add(outcome, mutant.name)
        word = "CAUGHT" if outcome.violated else "SKIP  " if outcome.verdict == "SKIP" else "MISSED"
        print(f"{word}  {mutant.name:<28} by {mutant.caught_by:<8} seed {seed:<6} {outcome.seconds:.1f} s")
        print(f"        {outcome.reason[:300]}", flush=True)
        if verbose and outcome.details:
            print(outcome.details, flush=True)
        return outcome.violated

    all_caught = await asyncio.gather(*(caught(mutant, seed) for seed in seeds for mutant in mutants))
    print(f"{sum(all_caught)} of {len(all_caught)} mutants caught", flush=True)
    return all(all_caught)

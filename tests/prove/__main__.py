"""`bin/prove`: scenarios that try to make the daemon lose, double or invent an event, and say whether it did."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
from pathlib import Path

import structlog

from tests.nursery import Nurse
from tests.prove import record
from tests.prove.catalogue import BY_NAME, SCENARIOS
from tests.prove.mutants import MUTANTS
from tests.prove.runner import play_all, play_mutants, succeeded


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/prove", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the dice; drawn and printed when not given")
    parser.add_argument("--repeat", type=int, default=1, help="with this many seeds in a row")
    parser.add_argument("--only", action="append", metavar="NAME", help="this scenario or mutant; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the scenarios and mutants, and stop")
    parser.add_argument("--set", choices=("short", "long"), default="short", help="short: minutes; long: thorough")
    parser.add_argument("--mutants", action="store_true", help="put defects into the daemon: each must be caught")
    parser.add_argument("--jobs", type=int, default=2, help="how many scenarios run at a time")
    parser.add_argument("--inputs", type=int, default=0, help="how many inputs `fuzz` sends")
    parser.add_argument("--results", type=Path, metavar="FILE", help="append what comes of each run, as JSON lines")
    parser.add_argument(
        "--record", type=Path, nargs="+", metavar="FILE", help="write docs/reliability.md from such files, and stop"
    )
    parser.add_argument("--cold", action="store_true", help="start each daemon from scratch, not by a fork: slower")
    parser.add_argument("--verbose", action="store_true", help="show where a scenario failed")
    return parser.parse_args(arguments)


def listing() -> str:
    lines = [f"{one.name:<10} {'' if one.short else '(long set) '}{one.says}" for one in SCENARIOS]
    lines += [f"{one.name:<28} must be caught by {one.caught_by}" for one in MUTANTS]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        print(listing())
        return 0
    if options.record:
        record.write(options.record)
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for library in ("asyncio", "engineio.client", "socketio.client"):  # what they say of connections that break
        logging.getLogger(library).setLevel(logging.CRITICAL)
    known = {one.name for one in MUTANTS} if options.mutants else set(BY_NAME)
    names = options.only or []
    if unknown := set(names) - known:
        sys.exit(f"bin/prove: not known: {', '.join(sorted(unknown))}; --list names all there are")
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, set {options.set}", flush=True)
    # As Ctrl-C does: whoever ends a long run leaves no daemons behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    nurse = None if options.cold else Nurse()
    try:
        return asyncio.run(prove(options, names, seed, nurse))
    except KeyboardInterrupt:
        return 130
    finally:
        if nurse is not None:
            nurse.close()


async def prove(options: argparse.Namespace, names: list[str], seed: int, nurse: Nurse | None) -> int:
    seeds = list(range(seed, seed + options.repeat))
    results = record.Results(options.results, "short" if options.mutants else options.set)
    if options.mutants:
        chosen = [one for one in MUTANTS if not names or one.name in names]
        all_caught = await play_mutants(chosen, seeds, results, nurse, jobs=options.jobs, verbose=options.verbose)
        return 0 if all_caught else 1
    scenarios = [BY_NAME[name] for name in names] or [one for one in SCENARIOS if one.short or options.set == "long"]
    outcomes = await play_all(
        scenarios,
        seeds,
        results,
        nurse,
        jobs=options.jobs,
        inputs=options.inputs,
        verbose=options.verbose,
    )
    all_required = os.environ.get("CLAUDE_LOOP_TEST_REQUIRE") == "all"
    return 0 if succeeded(outcomes, all_required=all_required) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

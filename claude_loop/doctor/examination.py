"""All checks, one after the other. A new check is a function in one of these modules, named in its ``CHECKS``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from claude_loop.doctor import agents, commands, daemon, events, home, machine, notifications, spool, units
from claude_loop.doctor.finding import Check, Finding, problem
from claude_loop.doctor.scene import Scene

CHECKS: Mapping[str, Check] = {
    name: check
    for module in (home, daemon, units, spool, events, commands, agents, notifications, machine)
    for name, check in module.CHECKS.items()
}


def examine(scene: Scene, checks: Mapping[str, Check] = CHECKS) -> Iterator[tuple[str, Finding]]:
    for name, check in checks.items():
        try:
            for finding in check(scene):
                yield name, finding
        except OSError as failure:  # what cannot even be looked at is a finding, and the others are wanted all the same
            where = f"{failure.filename}: " if failure.filename else ""
            yield name, problem(f"It cannot be looked at: {where}{failure.strerror or failure}.", _look(failure))


def _look(failure: OSError) -> str:
    return f"ls -ld '{failure.filename}'" if failure.filename else "claude-loop status"

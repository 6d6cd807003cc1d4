"""`doctor`: what keeps claude-loop from working here, and what mends it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_loop.cli import FAILED
from claude_loop.cli.terminal import note, plural, printable, put, put_json, wants_colour
from claude_loop.paths import Home

if TYPE_CHECKING:
    from claude_loop.doctor.finding import Finding

_SIGNS = {"ok": "✓", "warning": "!", "problem": "✗"}
_COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Every finding, as JSON.")
def doctor(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Say what keeps claude-loop from working here, with the command that mends it.

    Only looks: it starts, changes and sends nothing. Status 1 when there is a problem.
    """
    from claude_loop.doctor.examination import examine
    from claude_loop.doctor.scene import look_around

    found = []
    for name, finding in examine(look_around(Home.from_environment(), os.environ, Path.cwd())):
        found.append((name, finding))
        if not as_json:
            _show(name, finding)
    counts = Counter(finding.level for _, finding in found)
    if as_json:
        findings = [{"check": name, **finding._asdict()} for name, finding in found]
        put_json({"problems": counts["problem"], "warnings": counts["warning"], "findings": findings}, indent=2)
    else:
        note(f"{plural(counts['problem'], 'problem')}, {plural(counts['warning'], 'warning')}.")
    if counts["problem"]:
        sys.exit(FAILED)


def _show(name: str, finding: Finding) -> None:
    sign = _SIGNS[finding.level]
    if wants_colour(sys.stdout):
        sign = f"\x1b[{_COLOURS[finding.level]}m{sign}\x1b[0m"
    put(f"{sign} {name}: {printable(finding.sentence, 1000)}")
    if finding.fix:
        put(f"    {printable(finding.fix, 1000)}")

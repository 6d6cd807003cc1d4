"""docs/cli.md names every command and every option there is, and no other."""

from __future__ import annotations

import re

import click
import pytest

from claude_loop.cli import COMMANDS, FAILED, INTERRUPTED, REFUSED, UNREACHABLE, USAGE, cli
from claude_loop.cli.lock import NOT_HAD
from tests.support import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text()


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def options_of(one: click.Command) -> set[str]:
    """Those of its own commands too."""
    own = {opt for p in one.params for opt in (*p.opts, *p.secondary_opts)}
    inner = one.commands.values() if isinstance(one, click.Group) else ()
    return own.union(*map(options_of, inner))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_described_with_its_options(name):
    assert re.search(rf"`(claude-loop )?{name}\b", PAGE)
    parts = [row for row in PAGE.splitlines() if f"`claude-loop {name}" in row]
    if f"## {name}\n" in PAGE:
        parts.append(PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0])
    described = "\n".join(parts)
    for option in command(name).params:
        if isinstance(option, click.Option) and option.name != "help" and not option.hidden:
            shown = option.secondary_opts or option.opts
            assert any(re.search(rf"(?<![\w-]){re.escape(opt)}\b", described) for opt in shown), option.opts


def test_no_option_is_described_that_is_not_there():
    known = {"--version"}.union(*(options_of(command(name)) for name in COMMANDS))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known


def test_the_statuses():
    listed = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert listed == [0, FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED]
    assert f"and {NOT_HAD} when the lock was not had" in PAGE

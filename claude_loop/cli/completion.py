"""`completion`: the script that lets a shell complete our commands and options."""

from __future__ import annotations

import click

from claude_loop.cli.terminal import put


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    In ~/.bashrc: eval "$(claude-loop completion bash)". docs/cli.md has the lines for zsh and fish.
    """
    from click.shell_completion import get_completion_class

    from claude_loop.cli import cli

    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101 - click's own three
    # Not `source()` of bash's class: that starts a bash to ask its version, and warns below 4.4.
    made = maker(cli, {}, "claude-loop", "_CLAUDE_LOOP_COMPLETE")
    put(made.source_template % made.source_vars())

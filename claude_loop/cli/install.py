"""`install` and `uninstall`: links from ~/.local/bin to the commands of a clone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from claude_loop import resources
from claude_loop.cli.terminal import note
from claude_loop.errors import ForeignFile

COMMANDS = ("claude-loop", "claude-loop-hook", "emit_progress.sh")


@click.command()
def install() -> None:
    """Link claude-loop, claude-loop-hook and emit_progress.sh of this clone into ~/.local/bin.

    Files and links of others are never replaced. A copy that pip installed has nothing to link.
    """
    clone = _clone_or_say_why_not()
    if clone is None:
        return
    directory = _directory()
    # All are looked at before the first is made: half an installation helps nobody.
    missing = [name for name in COMMANDS if not _insist_ours(directory / name, clone)]
    directory.mkdir(parents=True, exist_ok=True)
    for name in missing:
        try:
            (directory / name).symlink_to(clone / "bin" / name)
        except FileExistsError:  # somebody was quicker
            _insist_ours(directory / name, clone)
        note(f"linked {directory / name} to {clone / 'bin' / name}")
    if not missing:
        note(f"{directory} has the links already")
    _say_how_it_is_found(directory)


@click.command()
def uninstall() -> None:
    """Remove the links that `install` made; whatever else lies in ~/.local/bin stays."""
    clone = _clone_or_say_why_not()
    if clone is None:
        return
    directory = _directory()
    for name in COMMANDS:
        link = directory / name
        if _is_ours(link, clone):
            link.unlink()
            note(f"removed {link}")
        elif os.path.lexists(link):
            note(f"left {link} alone: it is not a link to this clone")
        else:
            note(f"{link} is not there")


def _clone_or_say_why_not() -> Path | None:
    clone = resources.clone()
    if clone is None:
        note("This copy was installed by pip, which put its commands in place: there is nothing to link.")
    return clone


def _directory() -> Path:
    return Path.home() / ".local" / "bin"


def _is_ours(link: Path, clone: Path) -> bool:
    return link.is_symlink() and os.readlink(link) == str(clone / "bin" / link.name)


def _insist_ours(path: Path, clone: Path) -> bool:
    """Whether ``path`` is our link; False when there is nothing. Raises ``ForeignFile`` for anything else."""
    if _is_ours(path, clone):
        return True
    if path.is_symlink():
        raise ForeignFile(f"{path} is a link to {os.readlink(path)}, not to this clone.")
    if os.path.lexists(path):
        raise ForeignFile(f"{path} is there already, and not made by `claude-loop install`.")
    return False


def _say_how_it_is_found(directory: Path) -> None:
    on_path = [os.path.realpath(entry) for entry in os.get_exec_path() if entry]
    if os.path.realpath(directory) not in on_path:
        note(f"{directory} is not on PATH. Run this line, and add it to your shell's start file (~/.bashrc, ~/.zshrc):")
        note('  export PATH="$HOME/.local/bin:$PATH"')
        return
    for name in COMMANDS:
        first = shutil.which(name)
        if first is not None and Path(first) != directory / name and not os.path.samefile(first, directory / name):
            note(f"{directory} is on PATH, but {first} comes first")
            return
    note(f"{directory} is on PATH: try `claude-loop demo`; scripts say `source emit_progress.sh`")

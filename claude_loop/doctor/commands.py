"""The commands that scripts and agents use: found on PATH, and those of this version."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from claude_loop import resources
from claude_loop.doctor.finding import Finding, ok, problem, warning
from claude_loop.doctor.scene import Scene


def emitter(scene: Scene) -> Iterator[Finding]:
    yield _found("emit_progress.sh", resources.emitter(), scene.environ)


def hook(scene: Scene) -> Iterator[Finding]:
    yield _found("claude-loop-hook", resources.hook(), scene.environ)


def claude_loop(scene: Scene) -> Iterator[Finding]:
    yield _found("claude-loop", resources.command(), scene.environ)


def bash(scene: Scene) -> Iterator[Finding]:
    if shutil.which("bash", path=scene.environ.get("PATH", "")) is None:
        yield problem("There is no bash on PATH: neither the emitter nor the hook runs.", "sudo apt-get install bash")


def _found(name: str, ours: Path, environ: Mapping[str, str]) -> Finding:
    """How ``name`` is found, as `source` does it: a file on PATH, executable or not."""
    folders = [folder for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    path = next((found for folder in folders if (found := Path(folder, name)).is_file()), None)
    if path is None:
        return warning(f"{name} is not on PATH.", _installation(ours))
    if _is_same(path, ours):
        return ok(f"{name} is found at {path}.")
    return warning(f"{path} comes first on PATH, and is not the {name} of this version ({ours}).", _installation(ours))


def _is_same(path: Path, ours: Path) -> bool:
    if not ours.is_file():
        return False
    return path.samefile(ours) or path.read_bytes() == ours.read_bytes()


def _installation(ours: Path) -> str:
    """From a clone the links; for an installed copy its directory on PATH."""
    folder = shlex.quote(str(ours.parent))
    if resources.clone() is None:
        return f"export PATH={folder}:$PATH"
    return f'{folder}/claude-loop install; export PATH="$HOME/.local/bin:$PATH"'


CHECKS = {
    "command.claude-loop": claude_loop,
    "command.emit_progress.sh": emitter,
    "command.claude-loop-hook": hook,
    "command.bash": bash,
}

"""Makes or renews the clone's virtual environment from hash-pinned versions. Standard library only.

    python make_venv.py requirements.lock|requirements-dev.lock

``.venv/installed.lock`` is a copy of the lock file that ``.venv`` was made from. It is written last and removed first,
so an environment without it was never finished and is made anew. Whoever comes second waits, and finds the work done.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "installed.lock"
RUNTIME_LOCK = ROOT / "requirements.lock"

# Beside .venv, not in it: .venv is removed while the guard is held.
GUARD = ROOT / ".venv.guard"

# Set by some users for pip in general; here they would send the packages elsewhere.
MISLEADING = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV"})


class SetupFailed(Exception):
    """A sentence for the person, with what to do."""


def main(arguments: Sequence[str]) -> int:
    try:
        ensure(ROOT / arguments[0])
    except (SetupFailed, OSError) as failure:
        print(f"claude-loop: set-up failed: {failure}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def ensure(wanted: Path) -> None:
    """Leave a `.venv` that has the versions of ``wanted``. Raises ``SetupFailed`` and ``OSError``."""
    if is_current(wanted):
        return
    # pip inherits the guard: should this process be killed, nobody else begins before its pip has ended too.
    guard = os.open(GUARD, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(guard, fcntl.LOCK_EX)
    if not is_current(wanted):
        make(wanted, guard)


def is_current(wanted: Path) -> bool:
    """Whether `.venv` was finished with all versions and hashes that ``wanted`` names.

    The development lock holds the runtime lock, so running the command does not take away the tools of the tests.
    """
    try:
        installed = STAMP.read_bytes()
    except FileNotFoundError:
        return False
    if not os.access(VENV / "bin" / "python", os.X_OK) or not entries(wanted.read_bytes()) <= entries(installed):
        return False
    mark_checked()
    return True


def entries(lock: bytes) -> set[bytes]:
    """One entry a pinned package, with its hashes."""
    return {entry for entry in lock.replace(b"\\\n", b"").splitlines() if entry.strip()}


def mark_checked() -> None:
    """Give the stamp the runtime lock's time: what `bin/claude-loop` compares, instead of contents."""
    status = RUNTIME_LOCK.stat()
    try:
        os.utime(STAMP, ns=(status.st_atime_ns, status.st_mtime_ns))
    except PermissionError:
        return  # somebody else's clone: the check is slower there, and right all the same


def make(wanted: Path, guard: int) -> None:
    """Remove `.venv` and build it. Raises ``SetupFailed`` and ``OSError``."""
    print(f"claude-loop: making .venv from {wanted.name}, about a minute", file=sys.stderr, flush=True)
    lock = wanted.read_bytes()
    STAMP.unlink(missing_ok=True)
    if VENV.exists():
        shutil.rmtree(VENV)
    # The interpreter itself, not a link that means another version after an upgrade of the system: when this one
    # goes, `.venv/bin/python` dangles, and that is seen.
    run(guard, [os.path.realpath(sys.executable), "-I", "-m", "venv", str(VENV)])
    pip = [str(VENV / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check"]
    run(guard, [*pip, "install", "--no-user", "--require-hashes", "--requirement", str(wanted)])
    link_source()
    part = STAMP.with_suffix(".part")
    part.write_bytes(lock)
    part.replace(STAMP)
    mark_checked()


def run(guard: int, command: list[str]) -> None:
    """Run one step, silently; its output is shown when it fails. Raises ``SetupFailed``."""
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    done = subprocess.run(
        command, env=environment, pass_fds=(guard,), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        raise SetupFailed(f"{' '.join(command[1:5])} … ended with status {done.returncode}; run this again once mended")


def link_source() -> None:
    """Put the clone's own modules on the environment's path.

    The path is relative, so that a moved clone goes on working. An editable install would do too, but it copies
    `emit_progress.sh` into `.venv/bin`, where the copy grows stale.
    """
    (packages,) = VENV.glob("lib/python3.*/site-packages")
    (packages / "claude_loop_clone.pth").write_text(os.path.relpath(ROOT, packages) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

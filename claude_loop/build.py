"""Which build this is: the version of the package, and behind the `+` a digest of the code that runs.

Two clones, or one before and after a `git pull` or an edit, differ in it. A digest of what is there needs no git, says
the same of an installed copy and of a clone, and is not misled by times of files.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from pathlib import Path

from claude_loop import __version__

_PACKAGE = Path(__file__).resolve().parent
_DIGEST_BYTES = 5
# An installed package holds them, a clone has them beside it.
_EXAMPLES = "examples"


@cache  # a process goes on as it began, whatever becomes of the files
def full_version() -> str:
    """As in ``0.1.0+3f2a9c1d07``. Reads the code: some 50 ms, so not for quick commands."""
    return f"{__version__}+{digest_of(_PACKAGE)}"


def digest_of(package: Path) -> str:
    """Of all modules, and of the built page, whose index names the rest by their contents."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(package.rglob("*.py")):
        if path.is_relative_to(package / _EXAMPLES):
            continue
        _add(digest, path.relative_to(package).as_posix(), path.read_bytes())
    page = package / "web" / "dist" / "index.html"
    if page.is_file():
        _add(digest, "page", page.read_bytes())
    return digest.hexdigest()


def _add(digest: blake2b, name: str, content: bytes) -> None:
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)

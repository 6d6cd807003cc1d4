"""Asks git what a commit changed, in a way that runs nothing of the repository's and writes nothing into it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from claude_loop.formats.git_log import LOG_ARGUMENTS, Commit, parse_log

log = structlog.get_logger(__name__)

SECONDS = 10.0
# A commit of a million files has a list of a hundred megabytes; the beginning is enough.
_MOST_BYTES = 2 * 1024 * 1024
MOST_AT_ONCE = 50
# A repository's configuration can name programs for all of these.
_HARMLESS = (
    "--no-pager",
    "--no-optional-locks",
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "log.showSignature=false",
    "-c", "protocol.allow=never",
)  # fmt: skip
_LOG = ("log", "--no-walk=unsorted", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-color", "-l200")


def harmless_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {
        **kept,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "LC_ALL": "C",
    }


async def details(top: Path, hashes: Sequence[str]) -> dict[str, Commit] | None:
    """The commits by hash, those that git tells of: none where it is missing or refuses. None if it takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            "git", *_HARMLESS, "-C", str(top), *_LOG, *LOG_ARGUMENTS, *hashes[:MOST_AT_ONCE], "--",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=harmless_environment(),
        )  # fmt: skip
    except OSError as failure:
        log.info("git cannot be asked what commits changed", reason=str(failure))
        return {}
    over = False
    try:
        async with asyncio.timeout(SECONDS):
            text = await _beginning(process)
            if len(text) < _MOST_BYTES:
                await process.wait()
                over = True
    except TimeoutError:
        log.warning("git took too long to say what commits changed", repository=str(top))
        return None
    finally:
        if not over:
            process.kill()
            await process.wait()
    return {commit.commit_hash: commit for commit in parse_log(text.decode(errors="replace"))}


async def _beginning(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    pieces: list[bytes] = []
    size = 0
    while size < _MOST_BYTES and (piece := await process.stdout.read(65_536)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)

"""The examples of docs/socketio.md, run as they stand but for the port."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.requirements import NODE_FOLDER, find_node
from tests.support import ROOT, eventually
from tests.unit.transports.socketio_rig import serving

TEXT = (ROOT / "docs" / "socketio.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]
NODE = [code for language, code in BLOCKS if language == "js"]


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[list[str]]:
    """What the example has printed so far; it is ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=NODE_FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    lines: list[str] = []
    assert process.stdout is not None
    stdout = process.stdout

    async def read() -> None:
        while line := await stdout.readline():
            lines.append(line.decode().rstrip())

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


def test_every_example_is_run_here() -> None:
    assert [language for language, _ in BLOCKS] == ["python", "python", "python", "js"]


async def test_plain_python() -> None:
    async with serving() as rig, running(sys.executable, "-uc", PYTHON[0].replace("18790", str(rig.port))) as lines:
        await eventually(lambda: "PRD-001" in rig.transport.subscriptions)
        await rig.emit("note.made")
        await eventually(lambda: lines == ["1 PRD-001 note.made"])


async def test_following_python() -> None:
    async with serving() as rig:
        await rig.emit("story.told")
        async with running(sys.executable, "-uc", PYTHON[1].replace("18790", str(rig.port))) as lines:
            await eventually(lambda: lines == ["1 story.told"])
            await rig.emit("note.made")
            await rig.emit("story.told")
            await eventually(lambda: lines == ["1 story.told", "3 story.told"])


async def test_publishing_python() -> None:
    async with serving() as rig, running(sys.executable, "-uc", PYTHON[2].replace("18790", str(rig.port))) as lines:
        await eventually(lambda: lines == ["{'id': 'build-7.1', 'seq': 1, 'duplicate': False}"])


@pytest.mark.requires("node")
async def test_node() -> None:
    async with serving() as rig:
        code = NODE[0].replace("18790", str(rig.port))
        async with running(str(find_node()), "--input-type=module", "-e", code) as lines:
            await eventually(lambda: rig.transport.statistics()["subscriptions"] == 1)
            await rig.emit("note.made", prd_id="PRD-002")
            await rig.emit("note.made")
            await eventually(lambda: lines == ["2 note.made"])

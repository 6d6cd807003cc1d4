"""docs/http.md is true: every example is run, every route and code in its tables exists."""

import asyncio
import json
import os
import re
import signal

import pytest

from claude_loop import errors
from claude_loop.errors import ClaudeLoopError
from tests.live_server import LiveServer
from tests.support import PATIENCE, ROOT, eventually

PAGE = (ROOT / "docs" / "http.md").read_text()
EXAMPLE = re.compile(r"^```sh( stream)?\n(.*?)^```\n\n```(json|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_of_commands_is_followed_by_what_it_prints():
    assert len(EXAMPLE.findall(PAGE)) == len(re.findall(r"^```sh", PAGE, re.MULTILINE)) > 8


async def run(script, url, *, endless):
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script,
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"URL": url}, start_new_session=True,
    )  # fmt: skip
    if not endless:
        text, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0
        return text.decode()
    text = b""
    while b"data:" not in text or not text.endswith(b"\n\n"):
        text += await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    os.killpg(process.pid, signal.SIGTERM)
    await process.wait()
    return text.decode()


def agree(shown, real, path="$"):
    """Where the page has an ellipsis, anything may stand; everything else is exact."""
    if isinstance(shown, str) and "…" in shown:
        return True
    if isinstance(shown, dict):
        assert isinstance(real, dict), path
        assert shown.keys() == real.keys(), path
        return all(agree(shown[key], real[key], f"{path}.{key}") for key in shown)
    if isinstance(shown, list):
        assert len(shown) == len(real), path
        return all(agree(s, r, f"{path}[{n}]") for n, (s, r) in enumerate(zip(shown, real, strict=True)))
    assert shown == real, path
    return True


def agree_text(shown, real):
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    assert re.fullmatch(pattern, real), real


@pytest.mark.requires("curl")
async def test_the_examples_do_what_the_page_says(home):
    async with LiveServer(home) as server:
        for endless, script, kind, shown in EXAMPLE.findall(PAGE):
            if "/api/search" in script:  # whose index runs a moment behind, as the page says
                await eventually(lambda: _index_has_caught_up(server))
            printed = await run(script, server.url, endless=bool(endless))
            if kind == "json":
                agree(json.loads(shown), json.loads(printed))
            else:
                agree_text(shown, printed)


async def _index_has_caught_up(server):
    found = await server.get("/api/search?q=x")
    return found["indexed_upto"] == found["head"]


async def test_the_tables_list_every_route(home):
    async with LiveServer(home) as server:
        described = (await server.get("/api/openapi.json"))["paths"]
    listed = set(re.findall(r"^\| `([A-Z]+ /[^`]*)`", PAGE, re.MULTILINE))
    assert listed - {"GET /"} == {f"{method.upper()} {path}" for path, item in described.items() for method in item}


async def test_the_first_table_says_what_each_route_needs(home):
    async with LiveServer(home) as server:
        described = (await server.get("/api/openapi.json"))["paths"]
    for name, needs in re.findall(r"^\| `([A-Z]+ /[^`]*)` \| (\w+) \|", PAGE, re.MULTILINE):
        method, path = name.split()
        if path in described:
            assert described[path][method.lower()]["x-needs"] == needs


def test_the_table_of_errors_has_the_right_statuses():
    known = {
        kind.code: kind.status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ClaudeLoopError)
    }
    rows = re.findall(r"^\| ((?:\d{3}(?:, )?)+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 8
    for statuses, codes in rows:
        allowed = {int(status) for status in statuses.split(", ")}
        for code in re.findall(r"`(\w+)`", codes):
            assert statuses_of(code) & allowed, (code, known[code])


def statuses_of(code):
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ClaudeLoopError)]
    return {kind.status for kind in kinds if kind.code == code}

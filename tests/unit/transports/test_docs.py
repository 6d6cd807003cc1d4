"""docs/socketio.md, docs/http.md and docs/security.md name what the transports take and send, and nothing else."""

from __future__ import annotations

import re
from typing import get_args

from claude_loop import errors
from claude_loop.errors import ClaudeLoopError
from claude_loop.filters import FILTER_KEYS
from claude_loop.subscription import ResetReason
from claude_loop.transports.auth import Scope
from claude_loop.transports.http_query import FILTER_PARAMETERS
from claude_loop.transports.token_store import GIVEN_SCOPES
from tests.support import ROOT
from tests.unit.transports.socketio_rig import serving

SOCKETIO, HTTP, SECURITY = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("socketio", "http", "security"))
SENT_BY = ROOT / "claude_loop" / "transports"


def section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


async def test_every_event_that_a_client_may_send_has_its_heading() -> None:
    headings = re.findall(r"^### (.+)$", section(SOCKETIO, "What a client sends"), re.MULTILINE)
    async with serving() as rig:
        known = set(rig.transport._events._known)
    assert {name for heading in headings for name in re.findall(r"`(\w+)", heading)} == known


def test_every_message_of_the_server_is_in_its_table() -> None:
    table = re.findall(r"^\| (`.+?) \|", section(SOCKETIO, "What the server sends"), re.MULTILINE)
    sources = "".join(path.read_text() for path in sorted(SENT_BY.glob("*.py")))
    sent = set(re.findall(r'(?:client\.send|wire\.message)\("(\w+)"', sources)) | set(
        re.findall(r"42\[\"(\w+)\"", sources)
    )
    assert set().union(*map(names, table)) == sent


async def test_the_greeting_has_the_fields_that_are_told() -> None:
    (row,) = re.findall(r"^\| `connected` \| `\{(.+?)\}`", SOCKETIO, re.MULTILINE)
    async with serving() as rig:
        assert set(row.split(", ")) == set(rig.transport._greeting("s"))


def test_the_keys_of_a_filter() -> None:
    (line,) = re.findall(r"^- `filter`: lists (.+?)\. Values", SOCKETIO, re.MULTILINE)
    assert names(re.sub(r"\(.*?\)", "", line)) == set(FILTER_KEYS)
    table = HTTP.partition("| parameter | meaning |")[2].partition("\n\n")[0]
    assert {parameter.name for parameter in FILTER_PARAMETERS} <= names(table)


def test_the_reasons_of_a_reset() -> None:
    reasons = set(get_args(ResetReason))
    assert names(HTTP.partition("| reason | what happened |")[2].partition("\n\n")[0]) >= reasons
    assert reasons <= names(section(SOCKETIO, "What a client sends"))


def test_every_error_that_a_client_can_get_is_in_the_table() -> None:
    """Those of starting, of homes and of locks reach nobody over HTTP."""
    local = (errors.HomeError, errors.StartError, errors.LockError, errors.DaemonUnreachable)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ClaudeLoopError)]
    told = {kind.code for kind in kinds if not issubclass(kind, local)} - ONLY_AT_THE_TERMINAL
    rows = re.findall(r"^\| (?:\d{3}(?:, )?)+ \| (.+) \|$", HTTP, re.MULTILINE)
    assert told <= set().union(names(SOCKETIO), *map(names, rows))


ONLY_AT_THE_TERMINAL = {"backup_unusable", "foreign_file", "settings_file_refused", "token_exists"}


def test_the_table_of_callers_has_every_scope() -> None:
    (head,) = re.findall(r"^\| caller \| known by \| (.+) \|$", SECURITY, re.MULTILINE)
    assert set(head.split(" | ")) == set(get_args(Scope)) == {*GIVEN_SCOPES, "admin"}

"""One-time codes and browser sessions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.errors import ClaudeLoopError, RateLimited, Unauthorized
from claude_loop.transports.peer import Peer
from claude_loop.transports.sessions import Sessions
from tests.guarded_server import TOKEN, Guarded, ask, guarded

OURS = Peer("loopback", os.geteuid())
THEIRS = Peer("loopback", 12_345)
NETWORK = Peer("network")
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(clock: ManualClock) -> Sessions:
    return Sessions(clock)


def test_a_code_opens_one_session(sessions: Sessions) -> None:
    code = sessions.new_code()
    token = sessions.redeem(code, OURS)
    principal = sessions.principal_of(token)
    assert principal is not None
    assert (principal.kind, principal.scopes) == ("browser", {"read", "control"})
    with pytest.raises(Unauthorized):
        sessions.redeem(code, OURS)
    assert sessions.principal_of("other") is None
    assert len(code) * 6 >= 128
    assert len(token) * 6 >= 256


def test_a_code_lasts_a_minute(sessions: Sessions, clock: ManualClock) -> None:
    early, late = sessions.new_code(), sessions.new_code()
    clock.advance(59.9)
    sessions.redeem(early, OURS)
    clock.advance(0.2)
    with pytest.raises(Unauthorized):
        sessions.redeem(late, OURS)


def test_a_session_lasts_twelve_hours_from_its_last_use(sessions: Sessions, clock: ManualClock) -> None:
    token = sessions.redeem(sessions.new_code(), OURS)
    for _ in range(3):
        clock.advance(12 * 3600 - 1)
        assert sessions.principal_of(token) is not None
    clock.advance(12 * 3600)
    assert sessions.principal_of(token) is None
    assert len(sessions) == 0


def test_a_session_can_be_ended(sessions: Sessions) -> None:
    token = sessions.redeem(sessions.new_code(), OURS)
    sessions.end(token)
    sessions.end("never was one")
    assert sessions.principal_of(token) is None


def test_wrong_codes_are_limited_for_each_user_alone(sessions: Sessions, clock: ManualClock) -> None:
    for _ in range(10):
        with pytest.raises(Unauthorized):
            sessions.redeem("guess", THEIRS)
    with pytest.raises(RateLimited):
        sessions.redeem("guess", THEIRS)
    with pytest.raises(RateLimited):
        sessions.redeem(sessions.new_code(any_user=True), THEIRS)
    assert sessions.redeem(sessions.new_code(), OURS)
    assert sessions.redeem(sessions.new_code(), NETWORK)
    clock.advance(61)
    assert sessions.redeem(sessions.new_code(any_user=True), THEIRS)


def test_another_local_user_cannot_use_a_code_seen_in_a_command_line(sessions: Sessions) -> None:
    code = sessions.new_code()
    with pytest.raises(Unauthorized, match="another user"):
        sessions.redeem(code, THEIRS)
    with pytest.raises(Unauthorized):
        sessions.redeem(code, OURS)  # somebody else has seen it: it is used up
    assert sessions.redeem(sessions.new_code(any_user=True), THEIRS)
    assert sessions.redeem(sessions.new_code(), Peer("loopback", 0))
    assert sessions.redeem(sessions.new_code(), Peer("loopback"))


def test_both_tables_are_bounded(sessions: Sessions) -> None:
    codes = [sessions.new_code() for _ in range(100)]
    with pytest.raises(Unauthorized):
        sessions.redeem(codes[0], OURS)
    assert sessions.redeem(codes[-1], OURS)
    tokens = [sessions.redeem(sessions.new_code(), OURS) for _ in range(100)]
    assert len(sessions) == 64
    assert sessions.principal_of(tokens[0]) is None
    assert sessions.principal_of(tokens[-1]) is not None


def test_no_secret_is_kept(sessions: Sessions) -> None:
    code = sessions.new_code()
    kept = repr(vars(sessions))
    token = sessions.redeem(sessions.new_code(), OURS)
    kept += repr(vars(sessions)) + repr(sessions.principal_of(token))
    assert code not in kept
    assert token not in kept


@pytest.fixture
async def server() -> AsyncIterator[Guarded]:
    async with guarded() as running:
        yield running


async def test_over_http(server: Guarded) -> None:
    made = await ask(server, "POST", "/api/session/code", body="{}", headers=BEARER)
    assert made.json["expires_in"] == 60
    opened = (await ask(server, "POST", "/api/session", body=f'{{"code": "{made.json["code"]}"}}')).json
    mine = {"Authorization": f"Bearer {opened['token']}"}
    assert (await ask(server, path="/api/session", headers=mine)).json == {
        "kind": "browser",
        "scopes": ["control", "read"],
    }
    assert (await ask(server, headers=mine)).json["kind"] == "browser"
    assert (await ask(server, "POST", "/api/control", body="{}", headers=mine)).status == 200
    assert (await ask(server, "POST", body="{}", headers=mine)).code == "forbidden"
    assert (await ask(server, "POST", "/api/session/code", body="{}", headers=mine)).code == "forbidden"
    assert (await ask(server, "DELETE", "/api/session", headers=mine)).status == 200
    assert (await ask(server, headers=mine)).code == "unauthorized"
    assert (await ask(server, "POST", "/api/session", body=f'{{"code": "{made.json["code"]}"}}')).code == "unauthorized"


async def test_only_the_socket_and_the_token_make_codes(server: Guarded) -> None:
    assert (await ask(server, "POST", "/api/session/code", body="{}")).code == "forbidden"


async def test_a_restart_ends_sessions(home: Path) -> None:
    async with guarded() as server:
        token = server.sessions.redeem(server.sessions.new_code(), OURS)
    async with guarded() as server:
        assert (await ask(server, headers={"Authorization": f"Bearer {token}"})).code == "unauthorized"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("[" * 1000, 400),
        ('{"code": 1}', 400),
        ('{"code": null}', 400),
        ('{"code": "x"}', 401),
        ('{"code": "\\ud800"}', 400),
        (b"\xff", 400),
        (" " * 1025, 413),
    ],
)
async def test_bad_bodies(server: Guarded, body: str | bytes, status: int) -> None:
    answer = await ask(server, "POST", "/api/session", body=body)
    assert answer.status == status
    assert answer.code


async def test_any_user_must_be_a_boolean(server: Guarded) -> None:
    answer = await ask(server, "POST", "/api/session/code", body='{"any_user": "no"}', headers=BEARER)
    assert (answer.status, answer.json["error"]["field"]) == (400, "any_user")


async def test_ending_a_session_needs_one(server: Guarded) -> None:
    assert (await ask(server, "DELETE", "/api/session")).status == 400


def test_refusals_say_what_to_do(sessions: Sessions) -> None:
    with pytest.raises(ClaudeLoopError) as refusal:
        sessions.redeem("x", OURS)
    assert "claude-loop open" in refusal.value.hint

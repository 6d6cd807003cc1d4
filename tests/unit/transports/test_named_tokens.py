"""What the daemon makes of the named tokens, as they come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_loop.clock import ManualClock
from claude_loop.transports.auth import LOOPBACK, TOKEN, Authenticator
from claude_loop.transports.named_tokens import NamedTokens
from claude_loop.transports.token_store import TokenStore


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


@pytest.fixture
def named(store: TokenStore, clock: ManualClock) -> NamedTokens:
    return NamedTokens(store.path, clock)


def test_it_has_the_scopes_it_was_given_and_a_name_fit_for_a_log(named, store, clock) -> None:
    token, _ = store.create("ci", ["emit"], None, clock)
    principal = named.principal_of(token)
    assert principal.scopes == {"emit"}
    assert principal.name.startswith("ci#")
    assert token[4:] not in principal.name
    assert named.principal_of(token + "x") is None
    assert not any(map(named.is_void, (principal, LOOPBACK, TOKEN)))


def test_new_and_revoked_ones_count_at_once(named, store, clock) -> None:
    assert named.principal_of("clt_" + "x" * 43) is None  # it has looked, and there was no file
    token, _ = store.create("ci", ["read"], None, clock)
    before = named.principal_of(token)
    store.revoke("ci")
    assert named.principal_of(token) is None
    assert named.is_void(before)
    store.create("ci", ["read"], None, clock)
    assert named.is_void(before), "one of the same name is another token"


def test_one_that_is_over_is_void(named, store, clock) -> None:
    token, _ = store.create("ci", ["read"], clock.now_us() + 1_000_000, clock)
    principal = named.principal_of(token)
    clock.advance(1)
    assert named.principal_of(token) is None
    assert named.is_void(principal)


def test_with_a_file_that_cannot_be_trusted_none_holds(named, store, clock) -> None:
    token, _ = store.create("ci", ["read"], None, clock)
    principal = named.principal_of(token)
    store.path.chmod(0o644)
    assert named.principal_of(token) is None
    assert named.is_void(principal)
    store.path.chmod(0o600)
    assert named.principal_of(token) == principal


def test_a_socket_io_session_of_a_revoked_token_connects_no_more(named, store, clock) -> None:
    token, _ = store.create("ci", ["read"], None, clock)
    trust = Authenticator("t" * 43, session_of=lambda _: None, named_of=named.principal_of, is_void=named.is_void)
    principal = named.principal_of(token)
    assert trust.from_socketio_auth({}, principal) == principal
    store.revoke("ci")
    assert trust.from_socketio_auth({}, principal) is None
    assert trust.from_socketio_auth({"token": token}, LOOPBACK) is None

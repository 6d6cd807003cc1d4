"""The file of named tokens."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from claude_loop.clock import ManualClock, SystemClock
from claude_loop.errors import InvalidRequest, NotFound, TokenExists, UnsafeHome
from claude_loop.transports.token_store import TokenStore, digest_of

CLOCK = SystemClock()


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


def test_a_token_is_kept_as_a_digest_in_a_private_file(store: TokenStore) -> None:
    assert store.grants() == []
    old = os.umask(0)
    try:
        token, grant = store.create("ci", ["control", "read"], None, CLOCK)
    finally:
        os.umask(old)
    assert re.fullmatch(r"clt_[A-Za-z0-9_-]{43}", token)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    written = b"".join(path.read_bytes() for path in store.path.parent.iterdir())
    assert token.encode() not in written
    assert digest_of(token).encode() in written
    assert store.grants() == [grant]
    assert grant.scopes == ("read", "control")


def test_names_are_given_and_taken_once(store: TokenStore) -> None:
    names = [store.create(name, ["read"], None, CLOCK)[1].name for name in (None, "token-2", None)]
    assert names == ["token-1", "token-2", "token-3"]
    with pytest.raises(TokenExists):
        store.create("token-2", ["read"], None, CLOCK)
    store.revoke("token-1")
    assert store.create(None, ["read"], None, CLOCK)[1].name == "token-1"
    with pytest.raises(NotFound):
        store.revoke("token-9")


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a" * 41, "-a", "a\n"])
def test_what_is_no_name(store: TokenStore, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.create(name, ["read"], None, CLOCK)
    assert not store.path.exists()


def test_a_token_is_over_at_its_time(store: TokenStore) -> None:
    clock = ManualClock()
    _, grant = store.create("a", ["read"], clock.now_us() + 60_000_000, clock)
    assert not grant.is_over(clock.now_us() + 59_999_000)
    assert grant.is_over(clock.now_us() + 60_000_000)


def test_none_is_lost_when_many_are_made_at_once(store: TokenStore) -> None:
    threads = [threading.Thread(target=store.create, args=(None, ["read"], None, CLOCK)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(grant.name for grant in store.grants()) == sorted(f"token-{n}" for n in range(1, 13))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"tokens": [{}]}',
        '{"tokens": [{"name": "a", "sha256": "00", "scopes": ["read"], "created_at": "", "expires_at": null}]}',
        f'{{"tokens": [{{"name": "a", "sha256": "{"0" * 64}", "scopes": ["admin"], "created_at": "", "expires_at": null}}]}}',
        f'{{"tokens": [{{"name": "a", "sha256": "{"0" * 64}", "scopes": [], "created_at": "", "expires_at": "soon"}}]}}',
    ],
)
def test_a_damaged_file_is_said_and_not_overwritten(store: TokenStore, content: str) -> None:
    store.path.write_text(content)
    store.path.chmod(0o600)
    for use in (store.grants, lambda: store.create("b", ["read"], None, CLOCK), lambda: store.revoke("a")):
        with pytest.raises(UnsafeHome):
            use()
    assert store.path.read_text() == content


def test_a_file_that_others_may_read_or_a_link_is_refused(store: TokenStore) -> None:
    store.create("a", ["read"], None, CLOCK)
    store.path.chmod(0o640)
    with pytest.raises(UnsafeHome, match="0640"):
        store.grants()
    store.path.chmod(0o600)
    store.path.rename(store.path.with_name("elsewhere"))
    store.path.symlink_to(store.path.with_name("elsewhere"))
    with pytest.raises(UnsafeHome, match="symbolic link"):
        store.grants()

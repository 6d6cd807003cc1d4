"""Who counts for what."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_loop.errors import Unauthorized
from claude_loop.transports.auth import ANONYMOUS, LOOPBACK, TOKEN, Authenticator, Principal, how_to_authenticate
from claude_loop.transports.peer import Peer

SECRET = "clt_" + "s" * 43
US = os.geteuid()
SESSION = Principal("browser", frozenset({"read", "control"}), "ab12")

OURS = Peer("loopback", US)
THEIRS = Peer("loopback", US + 1)
UNKNOWN = Peer("loopback")
NETWORK = Peer("network")


def authenticator(**options: Any) -> Authenticator:
    return Authenticator(SECRET, session_of={"session": SESSION}.get, **options)


@pytest.mark.parametrize(
    ("peer", "kind"),
    [
        (OURS, "loopback"),
        (THEIRS, "anonymous"),
        (UNKNOWN, "anonymous"),
        (NETWORK, "anonymous"),
        (Peer("network", US), "anonymous"),
        (Peer("unix", US), "socket"),
        (Peer("unix"), "socket"),
        (Peer("unix", US + 1), "socket" if US + 1 == 0 else "anonymous"),
        (Peer("unix", 0), "socket"),
    ],
)
def test_by_connection(peer: Peer, kind: str) -> None:
    assert authenticator().resolve(peer, None).kind == kind


@pytest.mark.parametrize(
    ("loopback", "behind_proxy", "kinds"),
    [
        ("own-uid", False, ["loopback", "anonymous", "anonymous"]),
        ("token", False, ["anonymous", "anonymous", "anonymous"]),
        ("open", False, ["open", "open", "open"]),
        ("own-uid", True, ["anonymous", "anonymous", "anonymous"]),
        ("open", True, ["anonymous", "anonymous", "anonymous"]),
    ],
)
def test_trust_in_loopback(loopback: Any, behind_proxy: bool, kinds: list[str]) -> None:
    who = authenticator(loopback=loopback, behind_proxy=behind_proxy)
    assert [who.resolve(peer, None).kind for peer in (OURS, THEIRS, UNKNOWN)] == kinds
    assert who.resolve(NETWORK, None).kind == "anonymous"
    assert who.resolve(OURS, None, forwarded=True).kind == "anonymous"


def test_scopes_of_each_kind() -> None:
    who = authenticator()
    assert who.resolve(NETWORK, f"Bearer {SECRET}").scopes == {"emit", "read", "control", "admin"}
    assert who.resolve(Peer("unix", US), None).scopes == {"emit", "read", "control", "admin"}
    assert who.resolve(OURS, None).scopes == {"emit", "read"}
    assert authenticator(loopback="open").resolve(THEIRS, None).scopes == {"emit", "read"}
    assert who.resolve(NETWORK, "bearer session").scopes == {"read", "control"}
    assert who.resolve(NETWORK, None).scopes == frozenset()


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer x", f"Bearer {SECRET}x", f"bearer {SECRET[:-1]}"])
@pytest.mark.parametrize("peer", [OURS, Peer("unix", US), NETWORK])
def test_a_wrong_token_is_an_error_from_everywhere(header: str, peer: Peer) -> None:
    with pytest.raises(Unauthorized) as refusal:
        authenticator().resolve(peer, header)
    assert SECRET not in str(refusal.value.as_dict())


def test_socketio_auth() -> None:
    who = authenticator()
    assert who.from_socketio_auth({"token": SECRET}, ANONYMOUS) == TOKEN
    assert who.from_socketio_auth({"token": SECRET, "subscribe": {}}, LOOPBACK) == TOKEN
    assert who.from_socketio_auth({"token": "session"}, ANONYMOUS) == SESSION
    for nothing in (None, {}, {"subscribe": {}}, "text", [SECRET]):
        assert who.from_socketio_auth(nothing, LOOPBACK) == LOOPBACK
        assert who.from_socketio_auth(nothing, ANONYMOUS) is None
    for wrong in ("no", "", None, 1, True, [SECRET], {"token": SECRET}, "\ud800"):
        assert who.from_socketio_auth({"token": wrong}, LOOPBACK) is None, "a wrong token is not ignored"


def test_the_line_to_type_is_shell_that_works(tmp_path: Path) -> None:
    folder = tmp_path / "it's a home"
    folder.mkdir()
    (folder / "token").write_text(SECRET + "\n")
    line = how_to_authenticate("http://127.0.0.1:1/api/prds", folder / "token")
    shown = subprocess.run(
        ["bash", "-c", f'curl() {{ printf "%s\\n" "$@"; cat; }}; {line}'],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shown.stdout.splitlines() == ["-H", "@-", "http://127.0.0.1:1/api/prds", f"Authorization: Bearer {SECRET}"]

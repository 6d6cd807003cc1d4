"""Where the server listens, and where it refuses to."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from claude_loop.errors import PortTaken, SettingsRefused, UnsafeHome
from claude_loop.settings import load_settings
from claude_loop.transports.listeners import Listeners
from tests.guarded_server import TOKEN, ask, guarded, read_answer
from tests.support import free_port


def bound(unix_socket: Path | None = None, inherited: tuple[socket.socket, ...] = (), **settings: object) -> Listeners:
    listeners = Listeners(load_settings(**{"port": 0, **settings}))
    listeners.bind(unix_socket=unix_socket, inherited=inherited)
    return listeners


def names(listeners: Listeners) -> set[str]:
    return {each.getsockname()[0] for each in listeners._tcp}


@pytest.mark.requires("ipv6")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_means_both_families_on_one_port(host: str) -> None:
    listeners = bound(host=host)
    try:
        assert names(listeners) == {"127.0.0.1", "::1"}
        assert len({each.getsockname()[1] for each in listeners._tcp}) == 1
        assert listeners.port > 0
        assert listeners.url == f"http://127.0.0.1:{listeners.port}"
    finally:
        listeners.close()


@pytest.mark.requires("ipv6")
async def test_both_families_answer() -> None:
    async with guarded() as server:
        assert (await ask(server, address="::1", headers={"Host": f"[::1]:{server.port}"})).json["kind"] == "loopback"
        assert (await ask(server)).json["kind"] == "loopback"


@pytest.mark.requires("linux")
def test_a_taken_port_says_by_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(PortTaken) as refusal:
            bound(port=port)
    assert str(port) in refusal.value.message
    assert f"by process {os.getpid()} (" in refusal.value.message
    assert "of user " in refusal.value.message or "of uid " in refusal.value.message


@pytest.mark.requires("ipv6")
def test_half_a_port_is_no_port() -> None:
    """Whoever held the other family would be what `localhost` leads to."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(PortTaken):
            bound(port=port)
        with socket.create_server(("127.0.0.1", port)):
            pass  # the other half was given back


def test_a_port_in_use_by_a_server_like_ours() -> None:
    first = bound()
    try:
        with pytest.raises(PortTaken):
            bound(port=first.port)
    finally:
        first.close()
    bound(port=first.port).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_needs_protection(host: str) -> None:
    port = free_port()
    with pytest.raises(SettingsRefused, match="other machines") as refusal:
        bound(host=host, port=port)
    assert "--tls-cert" in refusal.value.hint
    with socket.create_server(("127.0.0.1", port)):
        pass  # nothing stayed bound
    bound(host=host, insecure_behind_proxy=True).close()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsRefused, match="unknown"):
        bound(host="no-such-host.invalid")


def test_an_inherited_socket_beyond_loopback_needs_protection_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as given, pytest.raises(SettingsRefused):
        bound(inherited=(given,))


@pytest.mark.requires("ipv6")
async def test_inherited_sockets_are_served_and_completed(home: Path) -> None:
    home.mkdir(parents=True)
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(home / "given"))
    unix.listen()
    async with guarded(inherited=(tcp, unix), unix_socket=home / "sock") as server:
        assert server.port == tcp.getsockname()[1]
        assert (await ask(server)).json["kind"] == "loopback"
        assert (await ask(server, address="::1", headers={"Host": "localhost"})).json["kind"] == "loopback"
        assert (await ask(server, unix=home / "given")).json["kind"] == "socket"
        assert not (home / "sock").exists()
    assert (home / "given").exists(), "it is systemd's to remove"


async def test_the_unix_socket_is_private_and_removed(home: Path) -> None:
    home.mkdir(parents=True)
    path = home / "sock"
    old = os.umask(0)
    try:
        async with guarded(unix_socket=path) as server:
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            assert (await ask(server, unix=path)).json["kind"] == "socket"
            assert [each.name for each in home.iterdir()] == ["sock"]
    finally:
        os.umask(old)
    assert list(home.iterdir()) == []


async def test_a_stale_socket_is_replaced(home: Path) -> None:
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "sock"))
    async with guarded(unix_socket=home / "sock") as server:
        assert (await ask(server, unix=home / "sock")).status == 200


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_something_else_in_its_place_is_left_alone(home: Path, kind: str) -> None:
    home.mkdir(parents=True)
    path = home / "sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(home / "elsewhere")
    with pytest.raises(UnsafeHome, match="no socket"):
        bound(unix_socket=path)
    assert path.is_symlink() or path.exists()


async def test_closing_leaves_a_successors_socket_alone(home: Path) -> None:
    home.mkdir(parents=True)
    first = bound(unix_socket=home / "sock")
    second = bound(unix_socket=home / "sock")
    first.close()
    assert (home / "sock").exists()
    second.close()
    assert not (home / "sock").exists()


@pytest.mark.requires("linux")
async def test_a_long_path_works(home: Path) -> None:
    folder = home / ("x" * 90) / ("y" * 90)
    folder.mkdir(parents=True)
    from claude_loop.transports.unix_path import short_path

    async with guarded(unix_socket=folder / "sock") as server:
        with short_path(folder / "sock") as name:
            assert (await ask(server, unix=Path(name))).json["kind"] == "socket"
    assert list(folder.iterdir()) == []


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=30)
    return cert, key


async def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    async with guarded(tls_cert=cert, tls_key=key, host="0.0.0.0", limits={"handshake_seconds": 2}) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        trust = ssl.create_default_context(cafile=str(cert))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
        origin = f"https://127.0.0.1:{server.port}"
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {origin}\r\n\r\n".encode())
        assert (await read_answer(reader)).json["kind"] == "loopback"
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()


@pytest.mark.parametrize("given", [("tls_cert",), ("tls_key",)])
def test_half_of_tls_is_refused(tmp_path: Path, given: tuple[str]) -> None:
    with pytest.raises(SettingsRefused, match="both"):
        bound(**{given[0]: tmp_path / "file"})


def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    with pytest.raises(SettingsRefused, match="cannot be used"):
        bound(tls_cert=tmp_path / "a", tls_key=tmp_path / "a")


@pytest.mark.requires("linux")
async def test_another_address_of_this_machine_is_the_network() -> None:
    """Reached by its address from outside loopback, only the token counts; the literal address is no rebound name."""
    address = _own_address()
    if address is None:
        pytest.skip("this machine has no address besides loopback")
    async with guarded(host="0.0.0.0", insecure_behind_proxy=True) as server:
        headers = {"Host": f"{address}:{server.port}"}
        assert (await ask(server, address=address, headers=headers)).code == "unauthorized"
        headers["Authorization"] = f"Bearer {TOKEN}"
        assert (await ask(server, address=address, headers=headers)).json["kind"] == "token"
        assert (await ask(server, headers=headers)).code == "host_refused", "only the address that was connected to"


def _own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address

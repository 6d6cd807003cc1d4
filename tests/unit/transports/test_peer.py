"""Asking the kernel whose a connection is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from claude_loop.transports import peer
from claude_loop.transports.peer import SocketDiagnostics, listener_is_ours, packed_loopback, unix_peer_uid
from tests.support import free_port, until

pytestmark = pytest.mark.requires("linux")

OTHER_UID = 12_345


@pytest.fixture
def diagnostics() -> Iterator[SocketDiagnostics]:
    with closing(SocketDiagnostics()) as opened:
        yield opened


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def connect(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(server.getsockname()[:2])
    return client, server.accept()[0]


def asked(diagnostics: SocketDiagnostics, accepted: socket.socket) -> peer.Owner | None:
    return diagnostics.connection_owner(accepted.getpeername(), accepted.getsockname())


def test_an_established_connection_names_its_user_and_inode(diagnostics, listener) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        owner = asked(diagnostics, accepted)
        assert owner is not None
        assert owner.uid == os.geteuid()
        assert owner.inode == os.fstat(client.fileno()).st_ino


@pytest.mark.requires("ipv6")
def test_ipv6_and_mapped_addresses(diagnostics) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        for address, family in (
            ("127.0.0.1", socket.AF_INET),
            ("::1", socket.AF_INET6),
            ("::ffff:127.0.0.1", socket.AF_INET6),
        ):
            with socket.socket(family) as client:
                client.connect((address, port))
                with server.accept()[0] as accepted:
                    owner = asked(diagnostics, accepted)
                    assert owner is not None, address
                    assert owner.inode == os.fstat(client.fileno()).st_ino


def test_a_half_closed_connection_is_no_answer(diagnostics, listener) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        assert asked(diagnostics, accepted) is None


def test_a_closed_connection_is_no_answer_though_the_kernel_says_uid_0(diagnostics, listener) -> None:
    client, accepted = connect(listener)
    with accepted:
        names = accepted.getpeername(), accepted.getsockname()
        client.close()
        assert accepted.recv(1) == b""
        assert diagnostics.connection_owner(*names) is None
    until(lambda: diagnostics.connection_owner(*names) is None)


def test_the_kernels_fallback_to_a_listener_is_no_answer(diagnostics, listener) -> None:
    """No connection has these addresses, but the first of them is a listener's: the kernel then reports that."""
    assert diagnostics.connection_owner(listener.getsockname(), ("127.0.0.1", 1)) is None


def test_a_connection_no_process_holds_yet_is_no_answer(diagnostics, listener) -> None:
    """In the queue of a listener it is ESTABLISHED already, with uid 0 and no inode."""
    with socket.create_connection(listener.getsockname()) as client:
        assert diagnostics.connection_owner(listener.getsockname(), client.getsockname()) is None
        with listener.accept()[0]:
            assert diagnostics.connection_owner(listener.getsockname(), client.getsockname()) is not None


@pytest.mark.parametrize(
    ("offset", "what"),
    [(8, "sequence"), (17, "state"), (21, "port"), (23, "port"), (27, "source"), (39, "padding"), (43, "target")],
)
def test_a_reply_is_believed_only_if_all_of_it_fits(diagnostics, listener, monkeypatch, offset: int, what: str) -> None:
    genuine = diagnostics._exchange

    def altered(question: bytes) -> bytes:
        answer = bytearray(genuine(question))
        answer[offset] ^= 1
        return bytes(answer)

    client, accepted = connect(listener)
    with client, accepted:
        assert asked(diagnostics, accepted) is not None
        monkeypatch.setattr(diagnostics, "_exchange", altered)
        assert asked(diagnostics, accepted) is None, what


def test_another_pair_of_addresses_is_no_answer(diagnostics, listener) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        name, own = accepted.getpeername(), accepted.getsockname()
        assert diagnostics.connection_owner((name[0], name[1] ^ 1), own) is None
        assert diagnostics.connection_owner(("127.0.0.2", name[1]), own) is None
        assert diagnostics.connection_owner(("10.0.0.1", name[1]), own) is None
        assert diagnostics.connection_owner(("::1", name[1]), own) is None


@pytest.mark.requires("root")
def test_another_users_connection_names_that_user(diagnostics, listener) -> None:
    script = "exec 3<>/dev/tcp/127.0.0.1/$0; echo up >&3; read -r _ <&3"
    child = subprocess.Popen(
        ["bash", "-c", script, str(listener.getsockname()[1])],
        user=OTHER_UID,
        group=OTHER_UID,
        extra_groups=[],
        cwd="/",
    )
    try:
        with listener.accept()[0] as accepted:
            assert accepted.recv(3) == b"up\n"
            owner = asked(diagnostics, accepted)
        assert owner is not None
        assert owner.uid == OTHER_UID
    finally:
        child.wait(30)


def test_without_netlink_nobody_is_known(diagnostics, listener, monkeypatch) -> None:
    monkeypatch.setattr(peer, "_NETLINK_SOCK_DIAG", 31)  # a protocol that no kernel has
    client, accepted = connect(listener)
    with client, accepted:
        assert asked(diagnostics, accepted) is None
        assert listener_is_ours(*listener.getsockname()) is None


def test_an_answer_to_another_question_is_not_taken(diagnostics, listener) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        assert asked(diagnostics, accepted) is not None
        netlink = diagnostics._netlink
        request = peer._HEADER.pack(16, peer._SOCK_DIAG_BY_FAMILY, peer._NLM_F_REQUEST, 4_711, 0)
        netlink.send(request)  # leaves an error for another question in the queue
        assert asked(diagnostics, accepted) is None
        assert asked(diagnostics, accepted) is not None, "a new socket is in step again"


def test_another_network_namespace_does_not_answer_for_ours(listener) -> None:
    """The same addresses elsewhere are another connection: the question is asked where we run."""
    script = (
        "import sys; from claude_loop.transports.peer import listener_is_ours;"
        f"print(listener_is_ours('127.0.0.1', {listener.getsockname()[1]}))"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no namespaces of our own here: {done.stderr.strip()}")
    assert done.stdout.strip() == "False"


def test_in_a_user_namespace_of_its_own_a_server_still_knows_its_user(listener) -> None:
    """As a service of systemd with PrivateUsers= is: our uid is mapped, everybody else is the overflow uid."""
    client, accepted = connect(listener)
    with client, accepted:
        script = (
            "import os; from claude_loop.transports.peer import SocketDiagnostics;"
            f"owner = SocketDiagnostics().connection_owner({accepted.getpeername()}, {accepted.getsockname()});"
            "print(owner is not None and owner.uid == os.geteuid())"
        )
        command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"no namespaces of our own here: {done.stderr.strip()}")
    assert done.stdout.strip() == "True"


def test_a_listener_of_ours_is_ours(listener) -> None:
    port = listener.getsockname()[1]
    assert listener_is_ours("127.0.0.1", port) is True
    assert listener_is_ours("localhost", port) is True


def test_a_port_nobody_listens_on_is_not_ours() -> None:
    assert listener_is_ours("127.0.0.1", free_port()) is False


def test_an_established_connection_from_that_port_is_no_listener(listener) -> None:
    client, accepted = connect(listener)
    with client, accepted:
        assert listener_is_ours("127.0.0.1", client.getsockname()[1]) is False


def test_elsewhere_it_cannot_be_told() -> None:
    assert listener_is_ours("192.0.2.1", 443) is None
    assert listener_is_ours("example.org", 443) is None


@pytest.mark.requires("root")
def test_another_users_listener_is_not_ours() -> None:
    port = free_port()
    child = subprocess.Popen(
        ["perl", "-MIO::Socket::INET", "-e", LISTENER, str(port)],
        user=OTHER_UID, group=OTHER_UID, extra_groups=[], cwd="/", stdout=subprocess.PIPE, stdin=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert listener_is_ours("127.0.0.1", port) is False
        assert listener_is_ours("localhost", port) is False
    finally:
        child.communicate(timeout=30)


LISTENER = """
$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ARGV[0], Listen => 1) or die; $| = 1;
print "up\\n"; <STDIN>;
"""


@pytest.mark.requires("root")
def test_the_overflow_uid_trusts_nobody() -> None:
    script = (
        "from claude_loop.transports.peer import *; print(can_tell_users_apart(), listener_is_ours('127.0.0.1', 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import os; import claude_loop.transports.peer; os.setuid(65534); {script}"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "None"]


def test_other_systems_tell_nothing(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert listener_is_ours("127.0.0.1", 1) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses(host: str) -> None:
    assert packed_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "127.1", "128.0.0.1", "0.0.0.0", "::", "::2", "::ffff:10.0.0.1", "127.0.0.1 ", "fe80::1%lo"],
)
def test_other_addresses(host: str) -> None:
    assert packed_loopback(host) is None


def test_unix_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unix_peer_uid(ours) == os.geteuid()


def test_importing_it_is_cheap() -> None:
    script = "import sys; import claude_loop.transports.peer, claude_loop.transports.token_file, claude_loop.transports.unix_path\nprint([m for m in ('aiohttp', 'pydantic', 'asyncio', 'structlog') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"

"""Who is at the other end of a connection, asked of the kernel. Standard library only, for quick commands.

A loopback TCP connection carries no credentials. On Linux the kernel's socket diagnostics tell, for one exact pair of
addresses, which user made the socket at the other end. Only a certain answer counts: ESTABLISHED (LISTEN for a
listener), held by a process (inode not 0), with exactly the addresses asked for. A closing socket is reported with
uid 0 and no inode, and where there is no connection the kernel falls back to a listener: neither is an answer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ESTABLISHED = 1
_LISTEN = 10
_ALL_STATES = 0xFFFF_FFFF
_ANY_COOKIE = 0xFFFF_FFFF

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
_REQUEST = struct.Struct("=BBBxI")  # inet_diag_req_v2 before its socket id: family, protocol, extensions, states
_SOCKET_ID = struct.Struct("!HH16s16s")  # ports and addresses, source first, in network order
_SCOPE = struct.Struct("=III")  # interface and cookie, the rest of the socket id
_REPLY = struct.Struct("!BBxxHH16s16s")  # inet_diag_msg up to the addresses
_OWNER = struct.Struct("=II")  # uid, inode
_OWNER_OFFSET = _HEADER.size + _REPLY.size + _SCOPE.size + 12  # behind the expiry and both queue lengths
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of one connection.

    ``via`` is ``unix`` (the socket in the state directory), ``loopback`` (TCP between loopback addresses) or
    ``network``. ``uid`` is the user behind it; None when nobody could tell for certain.
    """

    via: Literal["unix", "loopback", "network"]
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """What the kernel says of one socket: the user who made it and its inode in ``/proc/PID/fd``."""

    uid: int
    inode: int


class SocketDiagnostics:
    """One netlink socket, kept open: a question costs some ten microseconds and never waits.

    The kernel answers while the question is being sent, so the answer is there when ``send`` returns.
    """

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._sequence = 0

    def connection_owner(self, remote: tuple[Any, ...], local: tuple[Any, ...]) -> Owner | None:
        """Owner of the socket bound to ``remote`` and connected to ``local`` (socket names, both loopback).

        None when the answer is not certain, or cannot be had at all.
        """
        ends = packed_loopback(remote[0]), packed_loopback(local[0])
        if ends[0] is None or ends[1] is None or len(ends[0]) != len(ends[1]):
            return None
        try:
            return self._ask(_ESTABLISHED, ends[0], remote[1], ends[1], local[1])
        except OSError:
            return None  # no netlink here (a sandbox, an old kernel): doubt, and doubt means a token

    def listener_owner(self, host: str, port: int) -> Owner | None:
        """Owner of the socket that would accept a connection to the loopback address ``host``; None if there is none.

        Raises ``OSError`` when the kernel cannot be asked.
        """
        address = packed_loopback(host)
        if address is None:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is no loopback address")
        return self._ask(_LISTEN, address, port, bytes(len(address)), 0)

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def _ask(self, state: int, source: bytes, source_port: int, target: bytes, target_port: int) -> Owner | None:
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        body = (
            _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES)
            + _SOCKET_ID.pack(source_port, target_port, source, target)
            + _SCOPE.pack(0, _ANY_COOKIE, _ANY_COOKIE)
        )
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, self._sequence, 0)
        answer = self._exchange(head + body)
        _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if sequence != self._sequence:
            self.close()  # out of step: never read another question's answer as ours
            raise OSError(errno.EPROTO, "the kernel answered another question")
        if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _OWNER_OFFSET + _OWNER.size:
            return None
        found, found_state, *ports, found_source, found_target = _REPLY.unpack_from(answer, _HEADER.size)
        uid, inode = _OWNER.unpack_from(answer, _OWNER_OFFSET)
        if found_state != state or inode == 0 or ports != [source_port, target_port]:
            return None
        if state == _ESTABLISHED and not (_same(found, found_source, source) and _same(found, found_target, target)):
            return None
        return Owner(uid, inode)

    def _exchange(self, question: bytes) -> bytes:
        if self._netlink is None:
            self._netlink = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETLINK_SOCK_DIAG
            )
        try:
            self._netlink.send(question)
            return self._netlink.recv(4096)
        except OSError:
            self.close()
            raise


def _same(family: int, found: bytes, asked: bytes) -> bool:
    """Whether the 16 bytes of a reply are the address asked for; an IPv6 socket may hold an IPv4 address, mapped."""
    if family == socket.AF_INET6 and len(asked) == 4:
        return found == _MAPPED + asked
    return found == asked.ljust(16, b"\0")


@lru_cache(maxsize=64)
def packed_loopback(host: str) -> bytes | None:
    """``host`` as 4 or 16 bytes if it is a literal loopback address (127.0.0.0/8, ::1, or mapped), else None."""
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return None
    if packed.startswith(_MAPPED):
        packed = packed[12:]
    if len(packed) == 4:
        return packed if packed[0] == 127 else None
    return packed if packed == bytes(15) + b"\x01" else None


def can_tell_users_apart() -> bool:
    """Whether a uid from the kernel means something: on Linux, unless ours is the one that stands for unknown users."""
    if sys.platform != "linux":
        return False
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        overflow = 65_534
    return os.geteuid() != overflow


def listener_is_ours(host: str, port: int) -> bool | None:
    """Whether what listens at a loopback ``host`` (an address or ``localhost``) runs as our own user.

    False: another user's process, or nothing at all. None: it cannot be told (another system than Linux, an address
    that is not loopback). Ask before sending a token over TCP: anybody may listen on a free port and collect them.
    """
    if not can_tell_users_apart():
        return None
    hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    diagnostics = SocketDiagnostics()
    try:
        found = [diagnostics.listener_owner(each, port) for each in hosts]
    except OSError:
        return None
    finally:
        diagnostics.close()
    owners = {owner.uid for owner in found if owner is not None}
    return owners == {os.geteuid()}


def unix_peer_uid(connection: Any) -> int | None:
    """The user who connected to a Unix socket, as the kernel remembers it; None where it cannot be asked this way.

    ``connection`` is a socket, or anything with its ``getsockopt``.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, size))
    return int(uid)

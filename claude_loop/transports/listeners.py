"""The sockets a server listens on: loopback in both families, the Unix socket, and those systemd has opened for us.

Binding and serving are two steps, so that a taken port is found out before the log is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from claude_loop.errors import PortTaken, SettingsRefused, UnsafeHome
from claude_loop.settings import Settings
from claude_loop.transports.connection import Connection, ConnectionRules
from claude_loop.transports.neighbour import clash
from claude_loop.transports.peer import packed_loopback
from claude_loop.transports.unix_path import short_path

log = structlog.get_logger(__name__)

_BACKLOG = 512
# Port 0 asks for one free in both families: the system knows only about the first.
_ATTEMPTS = 20
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


class Listeners:
    """Binds, serves and closes. ``rules`` counts and identifies the connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls = tls_context(settings)
        self._address, self._port = "", 0
        self._tcp: list[socket.socket] = []
        self._unix: list[socket.socket] = []
        self._unix_path: Path | None = None
        self._unix_inode: int | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self.rules = ConnectionRules(settings)

    @property
    def port(self) -> int:
        """The TCP port once bound, also when the system chose it; 0 without a TCP socket."""
        return self._port

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server; empty without a TCP socket."""
        if not self._address:
            return ""
        # A socket bound to all addresses is reached through loopback.
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._address, self._address)  # noqa: S104 - a comparison
        return f"{'https' if self._tls else 'http'}://{f'[{address}]' if ':' in address else address}:{self.port}"

    def bind(self, *, unix_socket: Path | None = None, inherited: Sequence[socket.socket] = ()) -> None:
        """Take the addresses. ``inherited`` are listening sockets passed in by systemd; they replace our own.

        Raises ``SettingsRefused`` for an address beyond loopback without protection, ``PortTaken`` and ``UnsafeHome``.
        """
        try:
            self._tcp = [each for each in inherited if each.family != socket.AF_UNIX]
            self._unix = [each for each in inherited if each.family == socket.AF_UNIX]
            if self._tcp:
                self._complete_inherited()
            else:
                self._bind_tcp()
            self._insist_on_protection()
            if not self._unix and unix_socket is not None:
                self._bind_unix(unix_socket)
        except BaseException:
            self._close_sockets()
            raise
        for each in (*self._tcp, *self._unix):
            each.setblocking(False)
            each.set_inheritable(False)
        if self._tcp:
            self._address, self._port = self._tcp[0].getsockname()[:2]

    async def serve(self, server: web.Server) -> None:
        """Accept connections for ``server``, an ``AppRunner``'s after its ``setup``."""
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(server, self.rules)

        handshake = self._settings.limits.handshake_seconds if self._tls else None
        for each in self._tcp:
            self._servers.append(
                await loop.create_server(
                    connection, sock=each, ssl=self._tls, ssl_handshake_timeout=handshake, backlog=_BACKLOG
                )
            )
        for each in self._unix:
            self._servers.append(await loop.create_unix_server(connection, sock=each, backlog=_BACKLOG))

    def close(self) -> None:
        """Stop accepting. Open connections stay until the ``AppRunner`` is cleaned up."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._close_sockets()
        self.rules.close()

    def _bind_tcp(self) -> None:
        host, port = self._settings.host, self._settings.port
        if host not in {"localhost", "127.0.0.1", "::1"}:
            self._tcp = _bind_addresses(host, port)
            return
        # Both families, or another user could take the other one and be what `localhost` leads to.
        for attempt in range(_ATTEMPTS):
            first = _bind("127.0.0.1", port)
            try:
                second = _bind_if_there("::1", first.getsockname()[1])
            except PortTaken:
                first.close()
                if port or attempt == _ATTEMPTS - 1:
                    raise
                continue
            self._tcp = [first] if second is None else [first, second]
            return

    def _complete_inherited(self) -> None:
        """Take the other loopback family as well where systemd opened only one."""
        addresses = {each.getsockname()[0] for each in self._tcp}
        other = {frozenset({"127.0.0.1"}): "::1", frozenset({"::1"}): "127.0.0.1"}.get(frozenset(addresses))
        extra = None if other is None else _bind_if_there(other, self._tcp[0].getsockname()[1])
        if extra is not None:
            self._tcp.append(extra)

    def _insist_on_protection(self) -> None:
        if self._tls is not None or self._settings.insecure_behind_proxy:
            return
        for each in self._tcp:
            address = each.getsockname()[0]
            if packed_loopback(address) is None:
                raise SettingsRefused(
                    f"{address} can be reached from other machines, and everybody on the way could read the token.",
                    hint="Give --tls-cert and --tls-key, or --insecure-behind-proxy if a proxy in front speaks TLS, "
                    "or keep 127.0.0.1 and use `ssh -L`.",
                    field="host",
                )

    def _bind_unix(self, path: Path) -> None:
        """Bind aside and rename, so that ``path`` is never missing, half open or of a wrong mode."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise UnsafeHome(f"{path} is in the way: it is no socket.", hint="Move it away and start again.")
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        aside.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_path(aside) as name:
                listener.bind(name)
            aside.chmod(0o600)
            self._unix_inode = aside.lstat().st_ino
            listener.listen(_BACKLOG)
            aside.rename(path)
        except OSError:
            listener.close()
            aside.unlink(missing_ok=True)
            raise
        self._unix.append(listener)
        self._unix_path = path

    def _close_sockets(self) -> None:
        if self._unix_path is not None:
            with contextlib.suppress(FileNotFoundError):
                # Only our own: a successor may have put its socket there already.
                if self._unix_path.lstat().st_ino == self._unix_inode:
                    self._unix_path.unlink()
            self._unix_path = None
        for each in (*self._tcp, *self._unix):
            each.close()
        self._tcp, self._unix = [], []


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context the settings ask for, or None. Raises ``SettingsRefused`` when the files cannot be used."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise SettingsRefused("TLS needs both a certificate and its key.", hint="Give --tls-cert and --tls-key.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as failure:
        raise SettingsRefused(f"The certificate {cert} and the key {key} cannot be used: {failure}.") from None
    return context


def _bind_addresses(host: str, port: int) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise SettingsRefused(f"The address {host!r} is unknown: {failure.strerror}.", hint="", field="host") from None
    bound: list[socket.socket] = []
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    try:
        for address in addresses:
            bound.append(_bind(address, bound[0].getsockname()[1] if bound else port))
    except BaseException:
        for each in bound:
            each.close()
        raise
    return bound


def _bind_if_there(address: str, port: int) -> socket.socket | None:
    """Like ``_bind``; None on a machine without that family."""
    try:
        return _bind(address, port)
    except OSError as failure:
        if failure.errno in _NO_IPV6:
            log.info("address family is not there", address=address)
            return None
        raise


def _bind(address: str, port: int) -> socket.socket:
    """A bound socket. Raises ``PortTaken``, ``SettingsRefused`` for a port we may not have, else ``OSError``."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            # `::` takes IPv4 too, as people expect of it; ::1 has its own socket beside 127.0.0.1.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.bind((address, port))
        # SO_REUSEADDR lets two sockets bind one address as long as neither listens.
        listener.listen(_BACKLOG)
    except OSError as failure:
        listener.close()
        if failure.errno == errno.EADDRINUSE:
            raise clash(address, port) from None
        if failure.errno == errno.EACCES:
            raise SettingsRefused(f"Port {port} is not for ordinary users.", hint="Use one above 1023.") from None
        raise
    return listener

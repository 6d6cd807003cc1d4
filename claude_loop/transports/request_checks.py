"""What a request's own headers give away: whether a foreign web page is behind it. Pure functions over header values.

A browser on this machine reaches loopback for every page it shows. ``Host`` gives away a name that was made to point
here (DNS rebinding), ``Origin`` and ``Sec-Fetch-Site`` a page from elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qs

from claude_loop.errors import HostRefused, InvalidRequest, OriginRefused, SettingsRefused, UnsupportedMediaType

JSON_TYPES = frozenset({"application/json", "application/x-ndjson"})

# Any of these means that the other end of the connection may only be passing on what somebody else sent.
FORWARDED_HEADERS = frozenset(
    {
        "cf-connecting-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-real-ip",
    }
)

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@*\s]+)")


class Authority(NamedTuple):
    """The name and port of a ``Host`` header; the name in lower case and without brackets."""

    name: str
    port: int | None


@lru_cache(maxsize=256)  # one server is called by few names; a refusal is not kept
def parse_host(value: str) -> Authority:
    """Raises ``HostRefused`` for what is no host name or address."""
    match = _HOST.fullmatch(value.lower())
    if match is None:
        raise HostRefused("The Host header is not a host name.")
    port = match["port"]
    return Authority(match["name"].strip("[]"), None if port is None else int(port))


def forwarded(headers: Iterable[str]) -> bool:
    """Whether one of the header names in ``headers`` says that the request was passed on."""
    return not FORWARDED_HEADERS.isdisjoint(map(str.lower, headers))


def is_loopback_name(name: str) -> bool:
    """``localhost`` and literal loopback addresses; a name that merely resolves to one could be rebound."""
    return name in {"localhost", "127.0.0.1", "::1"} or (is_address(name) and ipaddress.ip_address(name).is_loopback)


def is_address(name: str) -> bool:
    """Whether ``name`` is a literal IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_host(values: Sequence[str], allowed: Collection[str], own_address: str) -> Authority:
    """The request's host: a loopback name, one of ``allowed``, or ``own_address``. Raises ``HostRefused``.

    ``own_address`` is the address the connection was made to: a literal address cannot be rebound.
    """
    if len(values) != 1:
        raise HostRefused("A request has exactly one Host header.")
    host = parse_host(values[0])
    if is_loopback_name(host.name) or host.name in allowed or host.name == own_address:
        return host
    raise HostRefused(f"This server does not answer to the name {host.name!r}.")


def check_origin(values: Sequence[str], scheme: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the request comes from one of the ``allowed`` origins; False for our own page and for no browser.

    Raises ``OriginRefused`` for every other origin.
    """
    if not values:
        return False
    if len(values) > 1:
        raise OriginRefused("A request has at most one Origin header.")
    origin = canonical_origin(values[0])
    if origin is None:
        raise OriginRefused(f"The origin {values[0][:200]!r} is refused.")
    if origin == canonical_origin(f"{scheme}://{host}"):
        return False
    if origin in allowed:
        return True
    raise OriginRefused(f"The origin {origin!r} may not call this server.")


@lru_cache(maxsize=256)
def canonical_origin(value: str) -> str | None:
    """``scheme://host:port`` in lower case with the port written out; None for ``null`` and for what is no origin."""
    match = _ORIGIN.fullmatch(value.lower())
    if match is None:
        return None
    authority = _HOST.fullmatch(match["host"])
    port = _DEFAULT_PORTS.get(match["scheme"]) if authority is None or not authority["port"] else int(authority["port"])
    if authority is None or port is None:
        return None
    return f"{match['scheme']}://{authority['name']}:{port}"


def allowed_origins(settings: Iterable[str]) -> frozenset[str]:
    """The setting ``allowed_origins`` in canonical form. Raises ``SettingsRefused`` for ``*``, patterns and paths."""
    origins = set()
    for value in settings:
        origin = canonical_origin(value.rstrip("/"))
        if origin is None:
            hint = "Name scheme, host and port: https://example.org or http://localhost:5173. Patterns are not taken."
            raise SettingsRefused(f"allowed_origins: {value!r} is no origin.", hint=hint, field="allowed_origins")
        origins.add(origin)
    return frozenset(origins)


def allowed_hosts(settings: Iterable[str]) -> frozenset[str]:
    """The setting ``allowed_hosts`` as names in lower case. Raises ``SettingsRefused`` for patterns and ports."""
    names = set()
    for value in settings:
        # An address may be written with or without the brackets that IPv6 has in a URL.
        name = value.lower().strip("[]")
        match = _HOST.fullmatch(f"[{name}]" if ":" in name else name)
        if match is None or (":" in name and not is_address(name)):
            hint = "Give the bare name or address, without port: it holds for any port. Patterns are not taken."
            raise SettingsRefused(f"allowed_hosts: {value!r} is no host name.", hint=hint, field="allowed_hosts")
        names.add(name)
    return frozenset(names)


def check_fetch_site(site: str | None, *, opens_page: bool) -> None:
    """Refuse what the browser itself says another site started, unless it only ``opens_page``: that holds no data."""
    if site is None or site in {"same-origin", "none"} or opens_page:
        return
    raise OriginRefused(f"A page of another origin started this request (Sec-Fetch-Site: {site[:40]}).")


def check_media_type(said: str | None, content_type: str, *, polling: bool) -> None:
    """Writes are JSON, which no page can send elsewhere unasked; ``polling`` may be text, as Engine.IO sends it.
    ``content_type`` is what is ``said`` in the header, as aiohttp reads it."""
    if not said:
        raise UnsupportedMediaType("The request does not say what its body is.")
    if content_type in JSON_TYPES or (polling and content_type == "text/plain"):
        return
    raise UnsupportedMediaType(f"This server does not take {content_type[:80]!r}.")


def engineio_sid(query: str) -> str | None:
    """The session a request to Engine.IO names, read exactly as Engine.IO reads it.

    Raises ``InvalidRequest`` when there are several, and for JSONP, whose answers are scripts that any page can run.
    """
    fields = parse_qs(query)
    if "j" in fields:
        raise InvalidRequest("JSONP polling is refused.", hint="Use the websocket or polling transport.")
    sids = fields.get("sid", [])
    if len(sids) > 1:
        raise InvalidRequest("A request names one session.", field="sid")
    return sids[0] if sids else None

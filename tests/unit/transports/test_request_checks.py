"""The checks on single headers, with what people and fuzzers write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.errors import ClaudeLoopError, HostRefused, InvalidRequest, OriginRefused
from claude_loop.transports.request_checks import (
    allowed_hosts,
    allowed_origins,
    canonical_origin,
    check_fetch_site,
    check_host,
    check_origin,
    engineio_sid,
    is_loopback_name,
    parse_host,
)

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@given(st.text(max_size=60))
def test_any_host_is_loopback_or_refused(text: str) -> None:
    try:
        host = check_host([text], frozenset(), "")
    except HostRefused:
        return
    assert is_loopback_name(host.name)


@given(st.from_regex(r"[a-z0-9.-]{0,12}(localhost|127\.0\.0\.1|\[::1\])[a-z0-9.:@/-]{0,12}", fullmatch=True))
def test_only_the_whole_name_counts(text: str) -> None:
    try:
        host = check_host([text], frozenset(), "")
    except HostRefused:
        return
    name = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() and not text.endswith("]") else text
    assert host.name in LOOPBACK or host.name.startswith("127.")
    assert name.strip("[]") == host.name


@given(st.text(max_size=80), st.sampled_from(["http", "https"]), st.integers(1, 65_535))
def test_any_origin_is_ours_or_refused(text: str, scheme: str, port: int) -> None:
    host = f"127.0.0.1:{port}"
    try:
        assert check_origin([text], scheme, host, frozenset()) is False
    except OriginRefused:
        return
    assert canonical_origin(text) == f"{scheme}://127.0.0.1:{port}"


@given(st.text(max_size=40))
def test_checks_refuse_and_never_break(text: str) -> None:
    for check in (
        lambda: parse_host(text),
        lambda: check_fetch_site(text, opens_page=False),
        lambda: engineio_sid(text),
        lambda: allowed_hosts([text]),
        lambda: allowed_origins([text]),
    ):
        try:
            check()
        except ClaudeLoopError as refusal:
            assert len(refusal.message) < 300


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a", "http://a:80"),
        ("HTTPS://A", "https://a:443"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_origins_are_compared_with_their_port(one: str, other: str) -> None:
    assert canonical_origin(one) == canonical_origin(other) is not None


@pytest.mark.parametrize(
    "text", ["null", "", "a", "http://", "http://a/", "http://a?b", "http://u@a", "data:x", "http://a:b"]
)
def test_what_is_no_origin(text: str) -> None:
    assert canonical_origin(text) is None


def test_own_address_is_a_host_and_nothing_near_it() -> None:
    assert check_host(["192.0.2.7:80"], frozenset(), "192.0.2.7").name == "192.0.2.7"
    with pytest.raises(HostRefused):
        check_host(["192.0.2.7.evil.test"], frozenset(), "192.0.2.7")
    with pytest.raises(HostRefused):
        check_host(["evil.test"], frozenset(), "")


def test_the_session_is_read_as_engineio_reads_it() -> None:
    assert engineio_sid("EIO=4&sid=abc") == "abc"
    assert engineio_sid("EIO=4&sid=") is None
    assert engineio_sid("EIO=4&sid=&sid=abc") == "abc"
    for query in ("sid=a&sid=b", "j=1", "sid=a&j=0"):
        with pytest.raises(InvalidRequest):
            engineio_sid(query)

"""Output cut into chunks: contiguous, bounded, at the right places, without secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_loop.adopt.chunks import CHUNK_BYTES, ITERATION_BYTES, Chunks
from claude_loop.intake.redact import Redactor
from claude_loop.settings import RedactSettings

REDACT = Redactor(RedactSettings()).text
# Not a key of anybody's: a block of the right shape.
KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEowIBAAKCAQEA0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL\n" * 300


def chunks(offset=0, iteration=None, stored=0, redact=str):
    return Chunks(redact, offset, iteration, stored, 0.0)


def test_one_a_second_unless_full():
    made = chunks()
    assert made.feed(b"first\n", 0.0) == []
    assert made.feed(b"second\n", 0.5) == []
    assert made.take(0.9) == []
    (chunk,) = made.take(1.0)
    assert (chunk.offset, chunk.size, chunk.text, chunk.left_out) == (0, 13, "first\nsecond\n", 0)
    full = made.feed(b"a line of output\n" * 2000, 1.1)
    assert [chunk.text.endswith("\n") for chunk in full] == [True] * 2
    assert all(CHUNK_BYTES - 20 < chunk.size <= CHUNK_BYTES for chunk in full)
    assert full[0].offset == 13


@given(st.lists(st.binary(max_size=40_000), max_size=12), st.integers(0, 3))
def test_chunks_cover_everything_once_and_are_small(pieces, restart):
    made, found = chunks(), []
    for number, piece in enumerate(pieces):
        found += made.feed(piece, float(number))
        if number % 4 == restart:
            found += made.begin_iteration(number, float(number))
    found += made.finish(99.0)
    place = 0
    for chunk in found:
        assert chunk.offset == place
        assert len(chunk.text.encode()) <= CHUNK_BYTES
        place += chunk.size
    assert place == sum(map(len, pieces)) == made.offset


def test_of_an_iteration_that_prints_without_end_little_is_stored():
    made, found = chunks(iteration=1), []
    line = b"the same line over and over, for hours and hours, until somebody looks\n"
    for second in range(3600):
        found += made.feed(line * 400, float(second))
        found += made.take(float(second))
    found += made.finish(3600.0)
    stored = sum(len(chunk.text) for chunk in found)
    assert ITERATION_BYTES <= stored < 1.5 * ITERATION_BYTES
    assert sum(chunk.size for chunk in found) == 3600 * 400 * len(line)
    assert sum(chunk.size - chunk.left_out for chunk in found) == stored
    begun = made.begin_iteration(2, 3601.0)
    assert begun == []
    (fresh,) = made.feed(b"x" * CHUNK_BYTES, 3601.0)
    assert (fresh.iteration, fresh.left_out) == (2, 0)


def test_a_private_key_cut_in_two_shows_neither_half():
    made = chunks(redact=REDACT)
    found = made.feed(b"before\n" + KEY, 0.0)
    found += made.feed(b"-----END RSA PRIVATE KEY-----\nafter\n", 0.0) + made.finish(1.0)
    text = "".join(chunk.text for chunk in found)
    assert len(found) > 1
    assert "MIIE" not in text
    assert text.startswith("before\n[redacted:private-key]")
    assert text.endswith("after\n")


def test_secrets_are_hidden_also_behind_colours():
    made = chunks(redact=REDACT)
    made.feed(b"key sk-ant-\x1b[1mabcdefghijklmnop123456\x1b[0m\n", 0.0)
    (chunk,) = made.finish(0.0)
    assert chunk.text == "key [redacted:anthropic-key]\n"


SECRETS = {
    "password: hunter2secretvalue": "hunter2",
    "Authorization: Bearer abcdef1234567890abcdef": "abcdef12",
    "AKIAIOSFODNN7EXAMPLE": "AKIAIOSF",
    "password:\n  hunter2secretvalue": "hunter2",
}


@pytest.mark.parametrize(("secret", "betrays"), SECRETS.items())
@pytest.mark.parametrize("filling", [b"x", b"some words "])
def test_no_secret_is_cut_in_two(secret, betrays, filling):
    for place in range(CHUNK_BYTES - len(secret) - 2, CHUNK_BYTES + 2):
        made = chunks(redact=REDACT)
        line = (filling * CHUNK_BYTES)[: place - 1] + b" " + secret.encode() + b" " + b"y" * 600 + b"\n"
        found = made.feed(line, 0.0) + made.finish(1.0)
        assert len(found) == 2
        assert not any(betrays in chunk.text for chunk in found), place
        assert sum(chunk.size for chunk in found) == len(line)


def test_an_excerpt_does_not_begin_within_a_secret():
    secret = b"sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"
    for behind in range(4096 - len(secret), 4096 + 1):
        made = chunks(iteration=1, stored=ITERATION_BYTES, redact=REDACT)
        line = b"a" * 600 + b" " + secret + b" " + b"z" * behind + b"\n"
        made.feed(line, 0.0)
        (chunk,) = made.finish(1.0)
        assert "0123456789" not in chunk.text
        assert (chunk.size, chunk.left_out > 0) == (len(line), True)

"""Bodies of `POST /api/events`: read within limits, and cut into slices so that a large one blocks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
from aiohttp import hdrs, web

from claude_loop.errors import Busy, InvalidJson, RequestTimeout, TooLarge, UnsupportedMediaType
from claude_loop.intake import wide_integers

# A slice is accepted without a pause: these many events take some 3 ms.
SLICE_RECORDS = 256
_SLICE_BYTES = 131_072
# An array is parsed in one go, which takes some 10 ms at this size. Lines are not: they may fill the whole limit.
ARRAY_BYTES = 2 * 1024 * 1024
# Each event is answered for itself; of a body made of nothing but tiny ones the answer would be far larger.
MAX_RECORDS = 100_000
_LARGE = 1024 * 1024
_MAX_LARGE = 4
_LARGE_SECONDS = 120.0


class BodyReader:
    """Reads whole bodies of at most ``limit`` bytes; of those beyond 1 MiB only a few at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._large = 0

    async def read(self, request: web.Request) -> bytes:
        """Raises ``UnsupportedMediaType``, ``TooLarge``, and for large bodies ``Busy`` or ``RequestTimeout``."""
        if hdrs.CONTENT_ENCODING in request.headers:
            raise UnsupportedMediaType("Compressed bodies are not taken.", hint="Leave Content-Encoding out.")
        content = request.content
        body = await content.readany()
        self._insist(len(body))
        if content.at_eof():
            return body
        parts, size = [body], len(body)
        while size <= _LARGE:
            part = await content.readany()
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            self._insist(size)
        return await self._read_large(request, parts, size)

    async def _read_large(self, request: web.Request, parts: list[bytes], size: int) -> bytes:
        if self._large >= _MAX_LARGE:
            raise Busy(f"{_MAX_LARGE} large bodies are being read.", hint="Send smaller ones, or one after the other.")
        self._large += 1
        try:
            async with asyncio.timeout(_LARGE_SECONDS):
                while part := await request.content.readany():
                    parts.append(part)
                    size += len(part)
                    self._insist(size)
        except TimeoutError:
            raise RequestTimeout(f"The body took longer than {_LARGE_SECONDS:g} s.") from None
        finally:
            self._large -= 1
        return b"".join(parts)

    def _insist(self, size: int) -> None:
        if size > self._limit:
            raise TooLarge(f"The body has more than {self._limit} bytes.", hint="Send it in several requests.")


def first_character(body: bytes) -> bytes:
    """What the body begins with behind white space; empty if there is nothing else."""
    return body[:1] if body[:1] in (b"{", b"[") else body.lstrip()[:1]


def line_slices(body: bytes) -> Iterator[list[bytes]]:
    """The lines of NDJSON that are not blank, a slice at a time. Raises ``TooLarge`` before the first of them."""
    newlines = body.count(b"\n")
    # Each record may have a blank line before it. More are not looked at, and whether fewer are too many is counted.
    if newlines > 2 * MAX_RECORDS or (newlines >= MAX_RECORDS and sum(map(len, _slices(body))) > MAX_RECORDS):
        raise _too_many()
    yield from _slices(body)


def _slices(body: bytes) -> Iterator[list[bytes]]:
    start, end = 0, len(body)
    lines: list[bytes] = []
    while start < end:
        stop = body.find(b"\n", start + _SLICE_BYTES) + 1 or end
        lines += [line for line in body[start:stop].split(b"\n") if line and not line.isspace()]
        whole = len(lines) // SLICE_RECORDS * SLICE_RECORDS
        for first in range(0, whole, SLICE_RECORDS):
            yield lines[first : first + SLICE_RECORDS]
        del lines[:whole]
        start = stop
        if sum(map(len, lines)) > _SLICE_BYTES:
            yield lines
            lines = []
    if lines:
        yield lines


def array_slices(body: bytes) -> Iterator[list[Any]]:
    """The elements of a JSON array, a slice at a time. Raises ``InvalidJson`` and ``TooLarge``."""
    if len(body) > ARRAY_BYTES:
        hint = "Send one object a line with Content-Type: application/x-ndjson."
        raise TooLarge(f"A JSON array may have {ARRAY_BYTES} bytes; this one has {len(body)}.", hint=hint)
    try:
        elements = wide_integers.loads(body)
    except orjson.JSONDecodeError as failure:
        raise InvalidJson(f"The body is not JSON: {failure.msg} (byte {failure.pos}).") from None
    if len(elements) > MAX_RECORDS:
        raise _too_many()
    for first in range(0, len(elements), SLICE_RECORDS):
        yield elements[first : first + SLICE_RECORDS]


def _too_many() -> TooLarge:
    return TooLarge(f"A request may have {MAX_RECORDS} events.", hint="Send them in several requests.")

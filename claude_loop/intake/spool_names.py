"""What names in the spool mean: which process writes a file, which life of a name it is, what a flush asks for."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

SUFFIX = ".jsonl"
# A name also becomes part of ids and of names that are longer by a generation.
MAX_NAME_BYTES = 200
_OURS = re.compile(r"([0-9]{13,17})-([0-9]{1,10})-[0-9A-Za-z_]{1,40}\Z")
_GENERATION = re.compile(r"(.+\.jsonl)\.([0-9]{1,20})\Z", re.DOTALL)
_FLUSH = re.compile(r"(.+)\.([0-9]{1,18})\Z", re.DOTALL)
_MAX_DERIVED_STEM = 80
# An emitter should choose its file's name before the time of its first line; a moment later does no harm.
_NAME_SLACK_US = 10_000


class Author(NamedTuple):
    """The process that a file of our emitters is named after, and when it chose the name."""

    pid: int
    since_us: int


def is_readable_name(name: str) -> bool:
    """Whether a file of this name can be spooled events: ``*.jsonl``, printable, of bounded length."""
    return why_unreadable(name) is None


def why_unreadable(name: str) -> str | None:
    """What about this name keeps the file from being read; None if nothing does."""
    if not name.endswith(SUFFIX):
        return f"its name does not end in {SUFFIX}"
    if name.startswith("."):
        return "its name begins with a dot"
    if not name.isprintable():
        return "its name has characters that cannot be printed"
    if len(name.encode(errors="surrogateescape")) > MAX_NAME_BYTES:
        return f"its name has more than {MAX_NAME_BYTES} bytes"
    return None


def author(stem: str) -> Author | None:
    """Who writes ``<epoch µs>-<pid>-<random>``; None for somebody else's names."""
    match = _OURS.match(stem)
    return None if match is None else Author(int(match[2]), int(match[1]))


def earliest_us(name: str) -> int:
    """No line of this file is older, in microseconds since the epoch; 0 if the name does not say."""
    found = author(name.removesuffix(SUFFIX))
    return 0 if found is None else max(0, found.since_us - _NAME_SLACK_US)


def split_generation(entry: str) -> tuple[str, int] | None:
    """``NAME.jsonl.GENERATION``, as files in ``leaving`` and offset rows are named; None for anything else."""
    match = _GENERATION.match(entry)
    return None if match is None else (match[1], int(match[2]))


def derived_prefix(name: str, generation: int, *, hidden: bool = False) -> str:
    """What the ids of a file's lines without id start with; the offset of the line follows. ``hidden``: without the
    name."""
    stem = name.removesuffix(SUFFIX)
    if hidden or len(stem) > _MAX_DERIVED_STEM:
        stem = blake2b(stem.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    return f"{stem}.g{generation}."


class FlushRequest(NamedTuple):
    """``flush/<stem>.<line>``: somebody waits until that line of that file is committed."""

    stem: str
    line: int

    @classmethod
    def parse(cls, entry: str) -> FlushRequest | None:
        match = _FLUSH.match(entry)
        return None if match is None else cls(match[1], int(match[2]))


def line_number(event_id: str, stem: str) -> int:
    """``n`` of our id ``<stem>.<n>``; 0 for any other id."""
    if not event_id.startswith(stem):
        return 0
    tail = event_id[len(stem) :]
    return int(tail[1:]) if tail[:1] == "." and tail[1:].isdecimal() and len(tail) < 20 else 0

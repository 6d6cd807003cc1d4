"""What git says about commits: `git log` in the form asked for here, and the line with which `git commit` answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# \x1e and a hash begin a commit, \x1f ends a field. A path may hold either sign, but not both around forty digits.
LOG_FORMAT = "--format=tformat:%x1e%H%x1f%ct%x1f%s%x1f"
LOG_ARGUMENTS = ("--numstat", "-z", LOG_FORMAT)

MOST_FILES = 100
MOST_MENTIONS = 16
_LONGEST_SUBJECT = 500
_COMMIT = re.compile(r"\x1e(?=[0-9a-f]{40}(?:[0-9a-f]{24})?\x1f)")
_NUMSTAT = re.compile(r"^(\d{1,12}|-)\t(\d{1,12}|-)\t(.*)$", re.DOTALL)

# As in: [main (root-commit) e9a4448] Add the basket
_ANSWER = re.compile(r"^\[(detached HEAD|[^\s\[\]]{1,250})(?: \(root-commit\))? ([0-9a-f]{7,64})\] (.{1,1000})$")
_CHANGED = re.compile(
    r"^ (\d{1,9}) files? changed(?:, (\d{1,12}) insertions?\(\+\))?(?:, (\d{1,12}) deletions?\(-\))?$"
)
# US-001, STORY_12, T3, PROJ-12.1, us-4a: letters, then a number.
_MENTION = re.compile(r"(?<![\w./-])[A-Za-z]{1,16}(?:-[A-Za-z]{1,16})?[-_]?\d{1,6}(?:[.-]\d{1,4})?[a-z]?(?![\w-])")


@dataclass(slots=True)
class Commit:
    commit_hash: str
    subject: str
    branch: str | None = None
    committed_at: int | None = None  # epoch seconds
    files: list[str] = field(default_factory=list)
    insertions: int | None = None
    deletions: int | None = None

    @property
    def mentions(self) -> list[str]:
        return mentions(self.subject)

    def data(self) -> dict[str, Any]:
        """The keys of `commit.created`, those that are known; `mentions` lets the log find the story."""
        known: dict[str, Any] = {"commit_hash": self.commit_hash}
        if self.subject:
            known["subject"] = self.subject
        for key in ("branch", "insertions", "deletions"):
            if (value := getattr(self, key)) is not None:
                known[key] = value
        if self.files:
            known["files"] = self.files[:MOST_FILES]
        if named := self.mentions:
            known["mentions"] = named
        return known


def mentions(subject: str) -> list[str]:
    """What in a subject may be the id of a story, in its order."""
    return list(dict.fromkeys(_MENTION.findall(subject[:_LONGEST_SUBJECT])))[:MOST_MENTIONS]


def parse_log(text: str) -> list[Commit]:
    """The answer of `git log` with ``LOG_ARGUMENTS``, in its order; what is cut off or strange is left out."""
    return [commit for record in _COMMIT.split(text)[1:] if (commit := _commit(record)) is not None]


def _commit(record: str) -> Commit | None:
    fields = record.split("\x1f", 3)
    if len(fields) != 4 or not fields[1].isdecimal():
        return None
    commit = Commit(fields[0], fields[2][:_LONGEST_SUBJECT], committed_at=int(fields[1]), insertions=0, deletions=0)
    _count_changes(commit, iter(fields[3].removeprefix("\0").removeprefix("\n").split("\0")))
    return commit


def _count_changes(commit: Commit, pieces: Iterator[str]) -> None:
    added = deleted = 0
    for piece in pieces:
        match = _NUMSTAT.match(piece.removeprefix("\n"))
        if match is None:
            continue
        added += 0 if match[1] == "-" else int(match[1])
        deleted += 0 if match[2] == "-" else int(match[2])
        path = match[3]
        if not path:  # renamed: the old and the new path follow as pieces of their own
            next(pieces, "")
            path = next(pieces, "")
        if path and len(commit.files) < MOST_FILES:
            commit.files.append(path)
    commit.insertions, commit.deletions = added, deleted


def parse_answers(text: str) -> list[Commit]:
    """The commits that `git commit` has announced in a command's output."""
    found: list[Commit] = []
    lines = text.splitlines() if "] " in text else []
    for at, line in enumerate(lines):
        match = _ANSWER.match(line) if line.startswith("[") else None
        if match is None:
            continue
        branch = None if match[1] == "detached HEAD" else match[1]
        commit = Commit(match[2], match[3][:_LONGEST_SUBJECT], branch=branch)
        for below in lines[at + 1 : at + 4]:  # author and date may stand between
            if changed := _CHANGED.match(below):
                commit.insertions, commit.deletions = int(changed[2] or 0), int(changed[3] or 0)
                break
        found.append(commit)
    return found

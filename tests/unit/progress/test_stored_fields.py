"""The fields of stored documents are written down beside the schema's number: a change that old logs would not follow fails.

.venv/bin/python -m tests.unit.progress.test_stored_fields     # writes them down anew, where that is all there is to do
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import get_type_hints, is_typeddict

from claude_loop.eventlog.migrations import STEPS
from claude_loop.progress import documents, keys, session_documents
from claude_loop.progress.projection import ProgressProjection

WRITTEN = Path(__file__).with_name("stored_fields.txt")
KINDS = {
    keys.PROJECTS: documents.ProjectDocument,
    keys.PRDS: documents.PrdDocument,
    keys.RUNS: documents.RunDocument,
    keys.STORIES: documents.StoryDocument,
    keys.SESSIONS: session_documents.SessionDocument,
    keys.AGENTS: session_documents.SessionDocument,
    keys.KEPT: session_documents.KeptDocument,
}
WHAT_TO_DO = """
Logs that are there hold documents without this. A new field of a PRD, run, story or session is given its first value
(`new_prd` and so on) when such a log is opened; where a rebuild from its events would give something else, and for every
other change, add a step to claude_loop/eventlog/migrations.py. Then:
.venv/bin/python -m tests.unit.progress.test_stored_fields
"""


def fields() -> list[str]:
    """One line for each kind of document, and for each field of all they are made of."""
    found = {f"{prefix}: {kind.__name__}" for prefix, kind in KINDS.items()}
    for kind in KINDS.values():
        found.update(_fields(kind))
    return sorted(found)


def _fields(kind: type) -> Iterator[str]:
    for name, type_ in get_type_hints(kind).items():
        words = type_.__name__ if isinstance(type_, type) and not hasattr(type_, "__args__") else str(type_)
        yield f"{kind.__name__}.{name}: {re.sub(r'[a-z_]+[.]', '', words)}"
        for part in _parts(type_):
            yield from _fields(part)


def _parts(type_: Any) -> Iterator[type]:
    if is_typeddict(type_):
        yield type_
    for argument in getattr(type_, "__args__", ()):
        yield from _parts(argument)


def changes() -> tuple[int, list[str]]:
    """The schema written down, and the lines that came (+) and went (-) since."""
    first, *before = WRITTEN.read_text().splitlines()
    now = fields()
    came, gone = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    return int(first.removeprefix("schema ")), [f"- {line}" for line in gone] + [f"+ {line}" for line in came]


def _follows_by_itself(change: str) -> bool:
    """A field that is new in a kind of document which is born with it."""
    born = {KINDS[prefix].__name__: document for prefix, document in ProgressProjection.first_values.items()}
    kind, _, field = change.removeprefix("+ ").partition(":")[0].partition(".")
    return change.startswith("+ ") and field in born.get(kind, {})


def test_every_kind_of_document_is_named_here():
    assert {value for value in vars(keys).values() if isinstance(value, str) and value.endswith("/")} == set(KINDS)


def test_a_change_of_stored_fields_reaches_the_logs_that_are_there():
    schema, changed = changes()
    assert (schema, changed) == (len(STEPS), []), "\n".join(changed) + WHAT_TO_DO


def main() -> int:
    schema, changed = changes()
    rest = [change for change in changed if not _follows_by_itself(change)]
    if rest and schema == len(STEPS):
        print("No step for:\n" + "\n".join(rest) + WHAT_TO_DO, file=sys.stderr)
        return 1
    WRITTEN.write_text("\n".join([f"schema {len(STEPS)}", *fields()]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

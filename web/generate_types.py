"""Writes `src/lib/documents.ts`, the types of what the daemon sends, from the schemas the daemon itself uses; and
`src/lib/event_words.ts`, the words of events, from those of the terminal.

.venv/bin/python web/generate_types.py           # in the clone, after a change of those
.venv/bin/python web/generate_types.py --check   # status 1 when a file is stale
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from claude_loop import event_words
from claude_loop.observability.series import SeriesAnswer
from claude_loop.observability.status import StatusAnswer
from claude_loop.progress import documents, parts
from claude_loop.progress.session_documents import SessionDocument
from claude_loop.progress.session_view import SessionDetail
from claude_loop.transports.http_events import EventJson, EventPage
from claude_loop.transports.http_prds import PatchesAnswer
from claude_loop.transports.http_runs import OutputPage

LIB = Path(__file__).resolve().parent / "src" / "lib"
ROOTS = (
    documents.ProjectDocument,
    documents.PrdDocument,
    documents.RunDocument,
    documents.StoryDocument,
    SessionDocument,
    SessionDetail,
    documents.Patch,
    EventJson,
    EventPage,
    PatchesAnswer,
    OutputPage,
    StatusAnswer,
    SeriesAnswer,
)
# Choices with a name of their own in Python; a schema shows only the choices.
NAMED = {
    "StoryState": parts.StoryState,
    "RunState": parts.RunState,
    "SessionState": parts.SessionState,
    "WaitingFor": parts.WaitingFor,
    "AttemptOutcome": parts.AttemptOutcome,
    "Group": documents.Group,
}
_REF = "#/$defs/{model}"
_PLAIN = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
    "anything": "unknown",
}
_HEAD = "// Made by web/generate_types.py from the daemon's schemas. Do not edit: change those and run it.\n"


def main(arguments: Sequence[str]) -> int:
    files = {LIB / "documents.ts": generate(), LIB / "event_words.ts": generate_words()}
    if "--check" in arguments:
        return int(any(not path.is_file() or path.read_text() != text for path, text in files.items()))
    for path, text in files.items():
        path.write_text(text)
    return 0


def generate_words() -> str:
    marks, tones = _choice(get_args(event_words.Mark)), _choice(get_args(event_words.Tone))
    rows = [
        f"  {_quoted(type_)}: "
        f"{{ mark: {_quoted(told.mark)}, words: {_quoted(told.words)}, "
        f"tone: {_quoted(told.tone)}, field: {_quoted(told.field)} }},\n"
        for type_, told in event_words.EVENT_WORDS.items()
    ]
    interface = (
        f"export interface Words {{\n  mark: {marks};\n  words: string;\n  tone: {tones};\n  field: string;\n}}\n"
    )
    head = "// Made by web/generate_types.py from claude_loop/event_words.py. Do not edit: change that and run it.\n"
    return f"{head}\n{interface}\nexport const EVENT_WORDS: Record<string, Words> = {{\n{''.join(rows)}}};\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def generate() -> str:
    inputs: Any = [(root, "serialization", TypeAdapter(root)) for root in ROOTS]
    _, schema = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    names = {get_args(choices): name for name, choices in NAMED.items()}
    parts = [_HEAD]
    parts += [f"export type {name} = {_choice(choices)};\n" for choices, name in names.items()]
    parts += [_interface(name, body, names) for name, body in sorted(schema["$defs"].items())]
    return "\n".join(parts)


def _choice(choices: Sequence[Any]) -> str:
    return " | ".join(f'"{choice}"' for choice in choices)


def _interface(name: str, body: dict[str, Any], names: dict[tuple[Any, ...], str]) -> str:
    required = set(body.get("required", ()))
    fields = "".join(
        f"  {field}{'' if field in required else '?'}: {_type(each, names)};\n"
        for field, each in body["properties"].items()
    )
    return f"export interface {name} {{\n{fields}}}\n"


def _type(schema: dict[str, Any], names: dict[tuple[Any, ...], str]) -> str:
    """Raises ``KeyError`` for a schema of a kind that has not occurred yet."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(_type(each, names) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum") or [schema["const"]]
        return names.get(tuple(choices)) or _choice(choices)
    return _of_kind(schema, names)


def _of_kind(schema: dict[str, Any], names: dict[tuple[Any, ...], str]) -> str:
    kind = schema.get("type", "anything")
    if kind == "array":
        item = _type(schema["items"], names)
        return f"({item})[]" if " | " in item else f"{item}[]"
    if kind == "object":
        more = schema.get("additionalProperties", True)
        return f"Record<string, {_type(more, names) if isinstance(more, dict) and more else 'unknown'}>"
    return _PLAIN[kind]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""docs/events.md and docs/spool.md say what the code does: tables, examples, kinds and numbers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import orjson
import pytest

from claude_loop import errors
from claude_loop.catalogue import CATALOGUE
from claude_loop.clock import SystemClock
from claude_loop.events import ENVELOPE_KEYS
from claude_loop.id_rules import TYPE_PATTERN
from claude_loop.intake.accept import Acceptor
from claude_loop.intake.redact_patterns import SECRETS
from claude_loop.intake.redact_vendors import VENDORS
from claude_loop.settings import LimitSettings, RedactSettings
from tests.support import ROOT

EVENTS = (ROOT / "docs" / "events.md").read_text()
SPOOL = (ROOT / "docs" / "spool.md").read_text()
ACCEPTOR = Acceptor(LimitSettings(), RedactSettings(), SystemClock())
EXAMPLES = [json.loads(line) for line in re.findall(r'^\{"type".*\}$', EVENTS, re.MULTILINE)]


def table(heading: str) -> list[list[str]]:
    section = EVENTS.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows[2:]]


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_every_type_is_described_with_its_fields() -> None:
    rows = {cells[0].strip("`"): cells for cells in table("Known types")}
    assert list(rows) == list(CATALOGUE)
    for kind, (_, fields, story) in rows.items():
        known = CATALOGUE[kind]
        schema = known.adapter.json_schema()
        described = names(fields)
        assert {field.rstrip("?*") for field in described} == set(schema.get("properties", {})), kind
        assert {field.rstrip("*") for field in described if "?" not in field} == set(schema.get("required", [])), kind
        assert story == known.story, kind


def test_there_is_an_example_of_every_type_and_each_is_accepted() -> None:
    assert [example["type"] for example in EXAMPLES] == list(CATALOGUE)
    for example in EXAMPLES:
        event = ACCEPTOR.accept(example, source="docs")
        required = {f.rstrip("*") for f in _fields(example["type"]) if "?" not in f}
        assert required <= set(event.data)


def _fields(kind: str) -> set[str]:
    return next(names(cells[1]) for cells in table("Known types") if cells[0] == f"`{kind}`")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["type"])
def test_what_is_not_marked_as_filled_in_must_be_there(example: dict) -> None:
    for field in example.get("data", {}):
        if field in _fields(example["type"]):  # neither ? nor *
            rest = {key: value for key, value in example["data"].items() if key != field}
            with pytest.raises(errors.InvalidEvent):
                ACCEPTOR.accept({**example, "data": rest}, source="docs")


def test_the_envelope_is_described() -> None:
    described = set().union(*(names(cells[0]) for cells in table("The envelope")))
    assert described == ENVELOPE_KEYS
    limits = LimitSettings()
    assert f"{limits.data_bytes:,} bytes" in EVENTS
    assert f"{limits.data_depth} levels" in EVENTS
    assert f"`{TYPE_PATTERN.replace(chr(92) + 'Z', '$')}`" in EVENTS
    shown = json.loads(EVENTS.split("```json\n")[1].split("```")[0])
    sent = {key: value for key, value in shown.items() if key in ENVELOPE_KEYS}
    stored = orjson.loads(ACCEPTOR.accept(sent, source="x").json)
    assert list(stored) == list(shown)
    assert {key: stored[key] for key in sent} == sent


def test_refusals_are_described_by_their_codes() -> None:
    section = EVENTS.split("## What breaks a rule")[1].split("From the [spool]")[0]
    described = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    classes = (errors.InvalidJson, errors.InvalidEvent, errors.UnknownField, errors.TooLarge, errors.IdConflict)
    assert described == {error.code for error in classes}


def test_every_kind_of_secret_is_described() -> None:
    described = set().union(*(names(cells[0]) for cells in table("Redaction")))
    made = set()
    for pattern in (*SECRETS, *VENDORS):
        text = pattern.replace if isinstance(pattern.replace, str) else ""
        made |= set(re.findall(r"\[redacted:([a-z-]+)\]", text))
    # Those that depend on what is found are listed here; test_redact has an example of each.
    made |= {"api-key", "bearer-token", "credentials", "password", "secret", "e-mail", "card"}
    assert described == made


@pytest.mark.requires("linux")
def test_the_emitter_without_a_library_writes_what_is_accepted(tmp_path: Path) -> None:
    script = SPOOL.split("```bash\n")[1].split("```")[0]
    (tmp_path / "spool").mkdir()
    subprocess.run(
        ["bash", "-euc", script], env={"CLAUDE_LOOP_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True
    )
    (file,) = (tmp_path / "spool").iterdir()
    event = ACCEPTOR.accept_line(file.read_bytes().strip(), source="docs")
    assert (event.type, event.data, event.id) == ("note.made", {"message": "hello"}, f"{file.stem}.1")
    assert abs(event.at - SystemClock().now_us() // 1000) < 60_000

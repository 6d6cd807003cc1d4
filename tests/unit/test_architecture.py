"""Rules of the code that the import contract and the linter do not express."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tomllib

import pytest

from tests.support import ROOT

MODULES = sorted((ROOT / "claude_loop").rglob("*.py"))


def loaded_by(module: str) -> set[str]:
    """What is in memory of ours and of other packages after importing ``module`` in a new process."""
    program = (
        f"import sys, json; before = set(sys.modules); import {module}\n"
        "print(json.dumps(sorted(set(sys.modules) - before - set(sys.stdlib_module_names))))"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return {name for name in json.loads(done.stdout) if name.split(".")[0] not in sys.stdlib_module_names}


def test_every_dependency_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named_otherwise = {"python-engineio": "engineio", "python-socketio": "socketio", "python-ulid": "ulid"}
    names = [re.split(r"[^A-Za-z0-9-]", entry)[0] for entry in project["dependencies"]]
    code = "\n".join(path.read_text() for path in MODULES)
    for name in names:
        module = named_otherwise.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(import|from) {module}\b", code, re.MULTILINE), name


def test_modules_stay_small():
    sizes = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert not {str(path): size for path, size in sizes.items() if size > 400}
    assert statistics.median(size for size in sizes.values() if size > 5) < 200


@pytest.mark.parametrize("module", ["claude_loop.session_lock", "claude_loop.lock_files"])
def test_the_session_lock_is_importable_alone(module):
    allowed = {"claude_loop", "claude_loop.errors", "claude_loop.lock_files", "claude_loop.session_lock"}
    assert loaded_by(module) <= allowed


def test_the_command_line_loads_nothing_heavy_before_a_command_needs_it():
    packages = {name.split(".")[0] for name in loaded_by("claude_loop.cli")}
    assert packages <= {"claude_loop", "click"}


def ten_changes() -> list[tuple[str, str]]:
    """The rows of CONTRIBUTING.md's table: what is added, and the files that it touches."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Ten changes")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return [(added.strip(), touched) for added, touched, *_ in rows if added.strip() != "To add"]


def test_each_of_the_ten_changes_touches_three_files_at_most_and_they_exist():
    rows = ten_changes()
    assert len(rows) >= 10
    for added, touched in rows:
        changes, _, generator = touched.partition(", then ")
        files = [name for name in re.findall(r"`([^`]+)`", changes) if "/" in name or "." in name]
        places = re.split(r";|, named in|, which makes it|, which passes it on", changes)
        assert 1 <= len([place for place in places if place.strip()]) <= 3, (added, places)
        for name in files + re.findall(r"`([^`]+\.py)`", generator):
            path = name.replace("AGENT", "claude")
            assert any(
                (root / path).exists() for root in (ROOT, ROOT / "claude_loop", ROOT / "claude_loop/progress")
            ), name

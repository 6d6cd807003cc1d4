"""`bin/build_page.py` in a small clone: when the page is built, and when it is not. npm and Node are stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import BIN

NPM = """#!/bin/bash
echo "$*" >> "$CALLS"
[[ -z ${FAIL-} ]] || { echo 'npm says why' >&2; exit 3; }
case $1 in
  ci) mkdir -p node_modules ;;
  run) mkdir -p ../claude_loop/web/dist; echo page > ../claude_loop/web/dist/index.html ;;
esac
"""


class Clone:
    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, root / "calls"
        for folder in ("bin", "web/src/lib", "claude_loop/web", "machine"):
            (root / folder).mkdir(parents=True)
        shutil.copy(BIN / "build_page.py", root / "bin")
        for name in ("package.json", "package-lock.json", "src/main.ts", "src/lib/words.ts"):
            (root / "web" / name).write_text("{}")
        self.give_node("v20.19.0")
        self.program("npm", NPM)
        self.environment = {"PATH": f"{root / 'machine'}:/usr/bin:/bin", "CALLS": str(self.calls)}

    def program(self, name: str, text: str) -> None:
        (self.root / "machine" / name).write_text(text)
        (self.root / "machine" / name).chmod(0o755)

    def give_node(self, version: str) -> None:
        self.program("node", f"#!/bin/bash\necho {version}\n")

    def build(self, *arguments: str, **environment: str) -> tuple[int, str]:
        line = [sys.executable, "-I", str(self.root / "bin" / "build_page.py"), *arguments]
        env = self.environment | environment
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr

    def called(self) -> list[str]:
        """What npm was called with since the last time."""
        try:
            said = self.calls.read_text().splitlines()
        except FileNotFoundError:
            return []
        self.calls.unlink()
        return [line.split()[0] for line in said]


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_it_builds_once_and_again_only_after_a_change_of_content(clone):
    status, words = clone.build()
    assert (status, words.count("\n")) == (0, 1)
    assert clone.called() == ["ci", "run"]
    assert clone.build() == (0, "")
    os.utime(clone.root / "web" / "src" / "main.ts", (1, 1))
    assert clone.build() == (0, "")
    assert clone.called() == []
    (clone.root / "web" / "src" / "lib" / "words.ts").write_text("export {}")
    assert clone.build()[0] == 0
    assert clone.called() == ["run"], "what npm installed is still of the same lock file"
    (clone.root / "web" / "src" / "lib" / "words.ts").unlink()
    (clone.root / "web" / "package-lock.json").write_text('{"other": 1}')
    assert clone.build()[0] == 0
    assert clone.called() == ["ci", "run"]


def test_a_build_that_failed_says_why_and_is_not_tried_at_each_command(clone):
    status, words = clone.build(FAIL="1")
    assert status == 1
    assert "npm says why" in words
    assert "python3 bin/build_page.py --again" in words
    assert not (clone.root / "claude_loop" / "web" / "dist" / "built-from").exists()
    clone.called()
    assert clone.build() == (0, "")
    assert clone.called() == []
    assert clone.build("--again")[0] == 0
    assert clone.called() == ["ci", "run"]


@pytest.mark.parametrize("version", ["v18.20.1", "v20.18.3", "v21.7.0", "v22.11.0", "nonsense"])
def test_a_node_that_vite_does_not_take_is_not_used(clone, version):
    clone.give_node(version)
    assert clone.build()[0] == 1
    assert clone.called() == []


@pytest.mark.parametrize("version", ["v20.19.5", "v22.12.0", "v24.1.0"])
def test_a_newer_node_is(clone, version):
    clone.give_node(version)
    assert clone.build()[0] == 0

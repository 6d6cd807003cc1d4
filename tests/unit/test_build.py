"""Two builds are told apart by what they would run, and by nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_loop import __version__
from claude_loop.build import digest_of, full_version


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "web" / "dist").mkdir(parents=True)
    (folder / "inner").mkdir()
    (folder / "one.py").write_text("a = 1\n")
    (folder / "inner" / "two.py").write_text("")
    (folder / "web" / "dist" / "index.html").write_text("<script src=/a1.js>")
    return folder


def test_this_build_is_the_version_and_a_digest():
    assert full_version().partition("+")[0] == __version__
    assert full_version() == full_version()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "one.py").write_text("a = 2\n"),
        lambda root: (root / "three.py").write_text(""),
        lambda root: (root / "inner" / "two.py").unlink(),
        lambda root: (root / "inner" / "two.py").rename(root / "two.py"),
        lambda root: (root / "web" / "dist" / "index.html").write_text("<script src=/a2.js>"),
        lambda root: (root / "web" / "dist" / "index.html").unlink(),
    ],
)
def test_another_file_is_another_build(package, change):
    before = digest_of(package)
    change(package)
    assert digest_of(package) != before


def test_where_it_is_when_it_was_written_and_what_it_does_not_run_are_no_difference(package, tmp_path):
    before = digest_of(package)
    os.utime(package / "one.py", (0, 0))
    (package / "inner" / "__pycache__").mkdir()
    (package / "inner" / "__pycache__" / "two.cpython-311.pyc").write_bytes(b"x")
    assert digest_of(package.rename(tmp_path / "elsewhere")) == before

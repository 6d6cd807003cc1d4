"""Where the files beside the code are, in a clone and in an installed copy."""

from __future__ import annotations

import sys

import pytest

from claude_loop import resources
from tests.support import ROOT


def test_in_a_clone():
    assert resources.clone() == ROOT
    assert resources.examples() == ROOT / "examples"
    assert resources.emitter() == ROOT / "bin" / "emit_progress.sh"
    assert (resources.examples() / "prd_loop.sh").is_file()
    assert resources.emitter().is_file()


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An installed copy: the package in site-packages, its commands in the prefix's bin."""
    package = tmp_path / "lib" / "site-packages" / "claude_loop"
    package.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_installed(prefix):
    (prefix / "bin" / "emit_progress.sh").touch()
    assert resources.clone() is None
    assert resources.examples() == prefix / "lib" / "site-packages" / "claude_loop" / "examples"
    assert resources.emitter() == prefix / "bin" / "emit_progress.sh"


def test_installed_with_commands_elsewhere(prefix, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = elsewhere / "emit_progress.sh"
    script.touch()
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(elsewhere))
    assert resources.emitter() == script


def test_where_there_is_none_the_usual_place_is_named(prefix, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert resources.emitter() == prefix / "bin" / "emit_progress.sh"

"""Where an emitter stands."""

from __future__ import annotations

import os

import pytest

from claude_loop.context import VARIABLES, inherited, project_name, silenced


def test_the_nearest_repository_upwards_names_the_project(tmp_path):
    deep = tmp_path / "outer" / "shop" / "src" / "deep"
    deep.mkdir(parents=True)
    assert project_name(deep) == "deep"
    (tmp_path / "outer" / ".git").mkdir()
    assert project_name(deep) == "outer"
    (tmp_path / "outer" / "shop" / ".git").write_text("gitdir: elsewhere")  # as a worktree and a submodule have it
    assert project_name(deep) == "shop"
    assert project_name(tmp_path / "outer" / "shop") == "shop"


def test_the_root_has_no_name(tmp_path):
    assert project_name(tmp_path.__class__("/")) is None


def test_every_id_has_its_variable(monkeypatch):
    environ = {variable: f"value of {key}" for key, variable in VARIABLES.items()}
    assert inherited(environ) == {key: f"value of {key}" for key in VARIABLES}


def test_an_empty_variable_counts_as_unset(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ids = inherited(dict.fromkeys(VARIABLES.values(), ""))
    assert ids == dict.fromkeys(VARIABLES) | {"project": "here"}


def test_a_directory_that_is_gone_has_no_name(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError):
        os.getcwd()
    assert inherited({})["project"] is None


@pytest.mark.parametrize(("value", "silent"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_silence(value, silent):
    assert silenced({} if value is None else {"CLAUDE_LOOP_DISABLE": value}) is silent

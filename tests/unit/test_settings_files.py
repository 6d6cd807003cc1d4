"""Replacing a file of somebody else's: whole, with its mode, through links, and never what has changed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_loop.errors import SettingsFileRefused
from claude_loop.paths import Home
from claude_loop.settings_files import MAX_BYTES, Kept, SettingsFile, digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_bytes(b"{}")
    return path


def file(path: Path, home: Path) -> SettingsFile:
    return SettingsFile(path, Home(home))


def test_content_changes_and_mode_stays(path: Path, home: Path) -> None:
    path.chmod(0o640)
    assert file(path, home).replace(b"{}", b'{"a": 1}') == ()
    assert path.read_bytes() == b'{"a": 1}'
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["settings.json"]


def test_a_link_stays_a_link(path: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target = path.rename(tmp_path / "dotfiles" / "claude.json")
    path.symlink_to("dotfiles/claude.json")
    file(path, home).replace(b"{}", b"[]")
    assert os.readlink(path) == "dotfiles/claude.json"
    assert target.read_bytes() == b"[]"


def test_what_has_changed_meanwhile_is_left_alone(path: Path, home: Path) -> None:
    with pytest.raises(SettingsFileRefused, match="meanwhile"):
        file(path, home).replace(b"{ }", b"[]")
    assert path.read_bytes() == b"{}"
    assert os.listdir(path.parent) == ["settings.json"]


def test_what_is_read_only_or_no_file_is_refused(path: Path, home: Path, tmp_path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(SettingsFileRefused, match="read-only"):
        file(path, home).replace(b"{}", b"[]")
    assert path.read_bytes() == b"{}"
    with pytest.raises(SettingsFileRefused, match="regular"):
        file(tmp_path, home).read()
    big = tmp_path / "big"
    big.touch()
    os.truncate(big, MAX_BYTES + 1)
    with pytest.raises(SettingsFileRefused, match="no settings file"):
        file(big, home).read()
    assert file(tmp_path / "nothing", home).read() is None


def test_directories_are_made_and_removed_again(tmp_path: Path, home: Path) -> None:
    place = file(tmp_path / "a" / "b" / "x.json", home)
    made = place.replace(None, b"{}")
    assert [Path(name).name for name in made] == ["b", "a"]
    place.keep(Kept(None, digest(b"{}"), made))
    place.replace(b"{}", None)
    place.forget(made)
    assert os.listdir(tmp_path) == []
    assert place.kept() is None


def test_what_was_there_is_kept_privately_byte_for_byte(path: Path, home: Path) -> None:
    place = file(path, home)
    before = b'{"a": "\xff"}\r\n'
    place.keep(Kept(before, "d"))
    assert place.kept() == Kept(before, "d")
    assert place.backup.stat().st_mode & 0o777 == 0o600
    assert place.backup.parent.stat().st_mode & 0o777 == 0o700
    for damaged in (b"", b"{}", b"[]", b'{"before": 1, "after_digest": 2, "made_directories": 3}'):
        place.backup.write_bytes(damaged)
        assert place.kept() is None

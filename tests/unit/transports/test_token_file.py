"""The token file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from claude_loop.clock import SystemClock
from claude_loop.errors import UnsafeHome
from claude_loop.transports.token_file import ensure_token, read_token


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "token"


def test_it_is_made_once_private_and_of_256_bits(path: Path) -> None:
    old = os.umask(0)
    try:
        token = ensure_token(path, SystemClock())
    finally:
        os.umask(old)
    assert re.fullmatch(r"clt_[A-Za-z0-9_-]{43}", token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_token(path, SystemClock()) == token == read_token(path)
    assert [each.name for each in path.parent.iterdir()] == ["token"], "nothing left beside it"


def test_two_are_different(tmp_path: Path) -> None:
    assert ensure_token(tmp_path / "a", SystemClock()) != ensure_token(tmp_path / "b", SystemClock())


def test_leftovers_of_a_crash_do_not_matter(path: Path) -> None:
    path.with_name(f"token.{os.getpid()}").write_text("half")
    assert read_token(path) if path.exists() else ensure_token(path, SystemClock())
    assert [each.name for each in path.parent.iterdir()] == ["token"]


def test_a_symlink_is_refused(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text("x" * 40)
    target.chmod(0o600)
    path.symlink_to(target)
    for use in (read_token, lambda p: ensure_token(p, SystemClock())):
        with pytest.raises(UnsafeHome, match="symbolic link"):
            use(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    ensure_token(path, SystemClock())
    path.chmod(mode)
    with pytest.raises(UnsafeHome, match="read by others"):
        read_token(path)


@pytest.mark.requires("root")
def test_somebody_elses_file_is_refused(path: Path) -> None:
    ensure_token(path, SystemClock())
    os.chown(path, 12_345, 12_345)
    with pytest.raises(UnsafeHome, match="12345"):
        read_token(path)


@pytest.mark.parametrize("text", ["", "\n", "short", "x" * 31, "x" * 513, "two words " * 5, "ü" * 40, "x" * 2000])
def test_what_is_no_token_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UnsafeHome, match="no token") as refusal:
        read_token(path)
    assert not text.strip() or text.strip() not in str(refusal.value.as_dict()), "the content stays in the file"


def test_a_token_of_ones_own(path: Path) -> None:
    path.write_text("m" * 32 + "\n")
    path.chmod(0o600)
    assert read_token(path) == "m" * 32


def test_a_directory_a_pipe_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("dir", "pipe"):
        with pytest.raises(UnsafeHome, match="not a file"):
            read_token(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_token(tmp_path / "nothing")

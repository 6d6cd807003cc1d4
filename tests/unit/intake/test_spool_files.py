"""What the spool opens, and what it says of the rest: whose fault it is decides whether a file is moved aside."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_loop.intake import spool_files
from claude_loop.intake.spool_files import SpoolFiles, Unreadable
from claude_loop.paths import Home


@pytest.fixture
def spool(home: Path) -> Path:
    Home(home).prepare()
    return home / "spool"


@pytest.fixture
def files(spool: Path) -> SpoolFiles:
    return SpoolFiles(Home(spool.parent))


def linked(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def owned_by_another(path: Path) -> None:
    path.touch()
    os.chown(path, 12_345, -1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (linked, "a symbolic link"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        pytest.param(owned_by_another, "it belongs to uid 12345", marks=pytest.mark.requires("root")),
    ],
)
def test_only_regular_files_of_ones_own_are_read(
    spool: Path, files: SpoolFiles, make: Callable[[Path], None], says: str
) -> None:
    make(spool / "a.jsonl")
    with pytest.raises(Unreadable, match=says), files.opened("spool", "a.jsonl"):
        pass


@pytest.mark.parametrize(("code", "blamed"), [(errno.EIO, True), (errno.ENOMEM, False)])
def test_a_disk_that_cannot_read_is_the_file_s_trouble_and_no_other(
    spool: Path, files: SpoolFiles, code: int, blamed: bool
) -> None:
    (spool / "a.jsonl").touch()
    expected = Unreadable if blamed else OSError
    with pytest.raises(expected), files.opened("spool", "a.jsonl"):
        raise OSError(code, os.strerror(code))


def test_a_lack_of_descriptors_is_not_blamed_on_a_file(
    spool: Path, files: SpoolFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spool / "a.jsonl").touch()

    def none_left(*_arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(spool_files.os, "open", none_left)
    with pytest.raises(OSError, match="Too many open files"), files.opened("spool", "a.jsonl"):
        pass


def test_what_is_gone_is_no_failure(files: SpoolFiles) -> None:
    with pytest.raises(FileNotFoundError), files.opened("spool", "a.jsonl"):
        pass
    files.remove("spool", "a.jsonl")
    assert files.status("spool", "a.jsonl") is None
    assert files.flush_age("a.1", 0) is None
    files.answer_flush("a.1")


def test_a_system_without_leases_says_that_it_does_not_know(files: SpoolFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(spool_files.fcntl, "F_SETLEASE", raising=False)
    assert not files.leases_work()


def test_a_name_that_is_put_aside_is_fit_for_a_terminal(spool: Path, files: SpoolFiles) -> None:
    (spool / "a.jsonl").write_text("x")
    files.set_aside("spool", "a.jsonl", "a\x1b[31mé.jsonl", 7)
    assert [path.name for path in (spool.parent / "rejected").iterdir()] == ["7-a_[31m_.jsonl"]

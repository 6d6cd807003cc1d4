"""A shell at a terminal, and a directory for a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.wrapper.outer import Shell


@pytest.fixture
def directory(home: Path) -> Path:
    return home / "runs" / "r1"


@pytest.fixture
def shell(directory: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()

"""In which order the tests' files are begun where several processes take one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest


def by_file(items: list[pytest.Item]) -> list[pytest.Item]:
    """``items`` in the order of their files; those of a file stay as they are."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = {path for path, tests in files.items() if any(test.get_closest_marker("slow") for test in tests)}
    return [item for path in in_order(list(files), slow) for item in files[path]]


def in_order(files: list[Path], slow: set[Path]) -> list[Path]:
    """``slow`` first: a file that takes long and begins last leaves the other processes idle."""
    return sorted(files, key=lambda path: path not in slow)

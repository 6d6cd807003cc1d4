"""In which order the tests' files are begun where several processes take one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

# End-to-end tests are begun within this part of the others: the rest is short, and so the processes end together.
_WAITING_PART = 0.75


def by_file(items: list[pytest.Item]) -> list[pytest.Item]:
    """``items`` in the order of their files; those of a file stay as they are."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = {path for path, tests in files.items() if any(test.get_closest_marker("slow") for test in tests)}
    return [item for path in in_order(list(files), slow) for item in files[path]]


def in_order(files: list[Path], slow: set[Path]) -> list[Path]:
    """``slow`` first, for a file that takes long and begins last leaves the other processes idle. Then end-to-end tests,
    which wait much, spread among those that keep a processor busy."""
    rest = [path for path in files if path not in slow]
    waiting = [path for path in rest if "e2e" in path.parts]
    working = [path for path in rest if "e2e" not in path.parts]
    places = [(_WAITING_PART * n / len(waiting), path) for n, path in enumerate(waiting)]
    places += [((n + 1) / len(working), path) for n, path in enumerate(working)]
    return [*(path for path in files if path in slow), *(path for _, path in sorted(places, key=lambda each: each[0]))]

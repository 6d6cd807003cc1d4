"""The order of the tests' files where several processes run them."""

from __future__ import annotations

from pathlib import Path

from tests.order import in_order


def test_slow_files_come_first_and_all_others_stay_in_their_order():
    files = [Path(f"tests/unit/test_{name}.py") for name in "bacde"]
    assert in_order(files, {files[4], files[1]}) == [files[1], files[4], files[0], files[2], files[3]]

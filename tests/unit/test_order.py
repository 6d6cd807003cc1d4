"""The order of the tests' files where several processes run them."""

from __future__ import annotations

from pathlib import Path

from tests.order import in_order


def test_slow_files_come_first_and_those_that_wait_among_those_that_work():
    waiting = [Path(f"tests/e2e/test_{name}.py") for name in "abc"]
    working = [Path(f"tests/unit/test_{n}.py") for n in range(8)]
    assert in_order([*waiting, *working], {waiting[1], working[7]}) == [
        waiting[1],
        working[7],
        waiting[0],
        *working[:2],
        waiting[2],
        *working[2:7],
    ]


def test_files_of_one_kind_stay_in_their_order():
    for folder in ("e2e", "unit"):
        files = [Path(f"tests/{folder}/test_{n}.py") for n in range(5)]
        assert in_order(files, set()) == files

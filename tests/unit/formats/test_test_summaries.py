"""Summaries of the test runners: the real runners where they are at hand, composed output elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_loop.formats.test_summaries import summarize

PYTEST_SUITE = """
import pytest

def test_adds(): assert 1 + 1 == 2

@pytest.mark.parametrize("case", ["a - b", "c"])
def test_subtracts(case): assert case == "c"

@pytest.mark.skip
def test_skipped(): pass

@pytest.mark.xfail
def test_known(): assert False

@pytest.fixture
def broken(): raise RuntimeError("no such table")

def test_errors(broken): pass
"""

UNITTEST_SUITE = """
import unittest

class Cart(unittest.TestCase):
    def test_adds(self): self.assertEqual(2, 1 + 1)
    def test_subtracts(self): self.assertEqual(1, 2)
    def test_errors(self): raise RuntimeError("no such table")
    @unittest.skip("later")
    def test_skipped(self): pass
    @unittest.expectedFailure
    def test_known(self): self.fail()
"""


def output_of(folder: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    # The plugins of our own tests take four fifths of the time of such a run, and none of them is asked for here.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=55, env=environment, check=False)
    return done.stdout + done.stderr


def run_pytest(folder: Path, *options: str) -> str:
    (folder / "test_cart.py").write_text(PYTEST_SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return output_of(folder, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options)


@pytest.mark.parametrize(
    "options",
    [(), ("-q",), ("-v",), ("--color=yes",), ("--tb=no", "-q"), ("-p", "xdist.plugin", "-n", "1", "-v", "--color=yes")],
    ids=" ".join,
)
def test_what_pytest_prints_is_understood(tmp_path, options):
    found = summarize(run_pytest(tmp_path, *options), "python -m pytest")
    assert found is not None
    assert found.pop("duration_ms") >= 0
    assert {name["name"] for name in found.pop("failures")} == {
        "test_cart.py::test_subtracts[a - b]",
        "test_cart.py::test_errors",
    }
    assert found == {"passed": 2, "failed": 2, "skipped": 2, "total": 6, "runner": "pytest"}


def test_pytest_without_its_short_summary_names_what_the_tracebacks_name(tmp_path):
    found = summarize(run_pytest(tmp_path, "-rN"))
    assert found is not None
    assert [each["name"] for each in found["failures"]] == ["test_errors", "test_subtracts[a - b]"]


def test_messages_of_pytest_stand_beside_the_names(tmp_path):
    found = summarize(run_pytest(tmp_path, "-q"))
    assert found is not None
    said = {each["name"]: each["message"] for each in found["failures"]}
    assert said["test_cart.py::test_errors"].startswith("RuntimeError: no such table")
    assert said["test_cart.py::test_subtracts[a - b]"].startswith("AssertionError")


def test_a_file_that_cannot_be_collected_is_a_failure(tmp_path):
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name\n")
    found = summarize(output_of(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"))
    assert found is not None
    assert (found["passed"], found["failed"]) == (0, 1)
    assert found["failures"][0]["name"] == "test_broken.py"


def test_collecting_alone_is_no_test_run(tmp_path):
    assert summarize(run_pytest(tmp_path, "--collect-only", "-q")) is None


def test_what_unittest_prints_is_understood(tmp_path):
    (tmp_path / "test_cart.py").write_text(UNITTEST_SUITE)
    found = summarize(output_of(tmp_path, sys.executable, "-m", "unittest"))
    assert found is not None
    assert found.pop("duration_ms") >= 0
    names = {each["name"]: each["message"] for each in found.pop("failures")}
    assert names == {
        "test_cart.Cart.test_subtracts": "AssertionError: 1 != 2",
        "test_cart.Cart.test_errors": "RuntimeError: no such table",
    }
    assert found == {"passed": 1, "failed": 2, "skipped": 2, "total": 5, "runner": "unittest"}


def test_unittest_that_passes_says_ok_some_lines_below():
    found = summarize("..\n" + "-" * 70 + "\nRan 2 tests in 1.234s\n\nOK\n")
    assert found is not None
    assert (found["passed"], found["failed"], found["duration_ms"]) == (2, 0, 1234)
    assert summarize("Ran 2 tests in 1.234s\n\nand then it was killed\n") is None


# A test of the real thing where it happens to be; the composed output below says the same everywhere.
if shutil.which("cargo"):

    def test_what_cargo_prints_is_understood(tmp_path):
        (tmp_path / "src").mkdir()
        (tmp_path / "tests").mkdir()
        (tmp_path / "Cargo.toml").write_text('[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2021"\n')
        (tmp_path / "src/lib.rs").write_text(
            "/// ```\n/// assert_eq!(shop::two(), 2);\n/// ```\npub fn two() -> u32 { 2 }\n"
            "#[test] fn adds() { assert_eq!(2, two()); }\n"
            '#[test] fn subtracts() { assert_eq!(3, two(), "left over"); }\n'
        )
        (tmp_path / "tests/whole.rs").write_text("#[test] fn whole() {}\n#[test] #[ignore] fn slow() {}\n")
        found = summarize(output_of(tmp_path, "cargo", "test", "--offline", "--no-fail-fast"))
        assert found is not None
        assert (found["passed"], found["failed"], found["skipped"], found["runner"]) == (3, 1, 1, "cargo test")
        assert [each["name"] for each in found["failures"]] == ["subtracts"]
        assert "left over" in found["failures"][0]["message"]


CARGO_TWICE = """
    Finished `test` profile [unoptimized + debuginfo] target(s) in 0.31s
     Running unittests src/lib.rs (target/debug/deps/shop-507999230d6984fa)

running 2 tests
test tests::adds ... ok
test tests::subtracts ... FAILED

failures:

---- tests::subtracts stdout ----

thread 'tests::subtracts' panicked at src/lib.rs:8:30:
assertion `left == right` failed: left over

failures:
    tests::subtracts

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.13s

error: test failed, to rerun pass `--lib`
    Finished `test` profile [unoptimized + debuginfo] target(s) in 0.31s
     Running unittests src/lib.rs (target/debug/deps/shop-507999230d6984fa)

running 2 tests
test tests::adds ... ok
test tests::subtracts ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s

   Doc-tests shop

running 1 test
test src/lib.rs - two (line 1) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.30s
"""


def test_the_last_run_of_cargo_counts_with_all_its_binaries():
    found = summarize(CARGO_TWICE)
    assert found == {
        "passed": 3, "failed": 0, "skipped": 0, "total": 3, "duration_ms": 320, "failures": [], "runner": "cargo test",
    }  # fmt: skip
    first = summarize(CARGO_TWICE[: CARGO_TWICE.index("error: test failed")])
    assert first is not None
    assert first["failures"] == [{"name": "tests::subtracts", "message": "assertion `left == right` failed: left over"}]


GO_PLAIN = """--- FAIL: TestCart (0.00s)
    --- FAIL: TestCart/removes (0.00s)
        cart_test.go:19: left 1, want 0
FAIL
FAIL\texample.com/shop/cart\t0.004s
ok  \texample.com/shop/money\t0.002s
ok  \texample.com/shop/stock\t(cached)
?   \texample.com/shop/cmd\t[no test files]
FAIL\texample.com/shop/mail [build failed]
FAIL
"""
GO_VERBOSE = """=== RUN   TestAdds
--- PASS: TestAdds (0.00s)
=== RUN   TestCart
=== RUN   TestCart/adds
=== RUN   TestCart/removes
    cart_test.go:19: left 1, want 0
--- FAIL: TestCart (0.00s)
    --- PASS: TestCart/adds (0.00s)
    --- FAIL: TestCart/removes (0.00s)
=== RUN   TestSlow
    cart_test.go:30: not in short mode
--- SKIP: TestSlow (0.00s)
FAIL
exit status 1
FAIL\texample.com/shop\t0.005s
"""


def test_go_without_details_counts_packages_that_passed():
    found = summarize(GO_PLAIN.replace("mail [", "mail\t["), "go test ./...")
    assert found == {
        "passed": 2, "failed": 2, "skipped": 0, "total": 4, "duration_ms": 6, "runner": "go test",
        "failures": [
            {"name": "TestCart/removes", "message": "cart_test.go:19: left 1, want 0"},
            {"name": "example.com/shop/mail", "message": "build failed"},
        ],
    }  # fmt: skip


def test_go_with_details_counts_tests():
    found = summarize(GO_VERBOSE)
    assert found is not None
    assert (found["passed"], found["failed"], found["skipped"]) == (2, 1, 1)
    assert [each["name"] for each in found["failures"]] == ["TestCart/removes"]


def test_a_second_run_of_go_begins_where_a_package_comes_again():
    found = summarize("ok  \tm/a\t0.010s\nok  \tm/b\t0.010s\nFAIL\tm/a\t0.020s\nok  \tm/b\t0.010s\n")
    assert found is not None
    assert (found["passed"], found["failed"], found["duration_ms"]) == (1, 1, 30)


JEST = """ FAIL  src/cart.test.js
  cart
    ✓ adds (2 ms)
    ✕ removes (4 ms)

  ● cart › removes

    expect(received).toBe(expected) // Object.is equality

Test Suites: 1 failed, 1 passed, 2 total
Tests:       1 failed, 1 skipped, 5 passed, 7 total
Snapshots:   0 total
Time:        1.234 s, estimated 2 s
Ran all test suites.
"""
VITEST = """
 ❯ src/cart.test.ts (2 tests | 1 failed) 5ms

⎯⎯⎯⎯⎯⎯⎯ Failed Tests 1 ⎯⎯⎯⎯⎯⎯⎯

 FAIL  src/cart.test.ts > cart > removes
AssertionError: expected 1 to be +0 // Object.is equality

 Test Files  1 failed | 1 passed (2)
      Tests  1 failed | 3 passed | 1 skipped | 1 todo (6)
   Start at  10:00:00
   Duration  350ms (transform 40ms, setup 0ms)
"""


def test_what_jest_prints_is_understood():
    assert summarize(JEST) == {
        "passed": 5, "failed": 1, "skipped": 1, "total": 7, "duration_ms": 1234, "runner": "jest",
        "failures": [{"name": "cart › removes", "message": "expect(received).toBe(expected) // Object.is equality"}],
    }  # fmt: skip


def test_what_vitest_prints_is_understood():
    assert summarize(VITEST) == {
        "passed": 3, "failed": 1, "skipped": 2, "total": 6, "duration_ms": 350, "runner": "vitest",
        "failures": [
            {"name": "src/cart.test.ts > cart > removes",
             "message": "AssertionError: expected 1 to be +0 // Object.is equality"}
        ],
    }  # fmt: skip


def test_a_suite_that_jest_cannot_run_is_a_failure():
    text = "  ● Test suite failed to run\n\n    Cannot find module\n\nTest Suites: 1 failed, 1 total\nTests:       0 total\n"
    found = summarize(text)
    assert found is not None
    assert (found["failed"], found["failures"][0]["name"]) == (1, "Test suite failed to run")


def test_the_last_summary_of_a_text_counts_whoever_made_it():
    text = JEST + "\n===== 1 failed, 2 passed in 0.10s =====\n" + "$ pytest -q\n" + "3 passed in 0.05s\n"
    found = summarize(text)
    assert found is not None
    assert (found["runner"], found["passed"], found["failed"], found["failures"]) == ("pytest", 3, 0, [])
    assert (summarize(text + VITEST) or {})["runner"] == "vitest"


def test_long_runs_of_pytest_are_understood_too():
    found = summarize("=========== 2 failed, 812 passed, 3 warnings in 75.31s (0:01:15) ===========")
    assert found is not None
    assert (found["failed"], found["passed"], found["duration_ms"]) == (2, 812, 75310)


@pytest.mark.parametrize(
    "prose",
    [
        "3 passed the exam",
        "All 3 tests passed in 2 attempts.",
        "I ran pytest: 3 passed in 0.05s, so the story is done.",
        "3 passed in the morning",
        "- 12 passed, 0 failed",
        "Tests: 5 passed, 5 total",
        "The result is FAIL in 0.3s",
        "ok then, 3.0s",
        "ok 1 - adds",
        "test result: ok.",
        "Ran 3 tests in 0.001s and they were OK",
        "3 warnings in 0.10s",
        "",
    ],
)
def test_prose_is_no_test_run(prose):
    assert summarize(prose) is None
    assert summarize(f"first\n  {prose}\nlast\n") is None


@pytest.mark.parametrize("command", ["cat build.log", "cd logs && tail -5 a.log | grep passed", "git log -3", "echo x"])
def test_reading_somebodys_log_is_no_test_run(command):
    assert summarize("3 passed in 0.05s", command) is None
    assert summarize("3 passed in 0.05s", f"{command}; pytest -q") is not None


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[" + "0" * 2_000_000,
        "\x1b]" * 1_000_000,
        "1 passed, " * 200_000,
        "1 passed, \n" * 180_000,
        "=" * 2_000_000,
        "_" * 2_000_000,
        "FAILED [" * 250_000,
        "Ran 3 tests in 0.001s\n" * 90_000,
        "FAIL: a\n" * 250_000 + "Ran 3 tests in 0.001s\n\nFAILED (failures=3)\n",
        "Tests:       1 failed, 1 total\n" * 60_000,
        "--- FAIL: TestX (0.00s)\n" * 80_000,
        "FAIL\tm\t0.001s\n" * 140_000,
        "test a ... FAILED\n" * 110_000
        + "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        "\r" * 2_000_000,
    ],
    ids=range(14),
)
def test_hostile_output_takes_linear_time(hostile):
    before = time.process_time()
    summarize(hostile + "\n3 passed in 0.05s")
    whole = time.process_time() - before
    # A quadratic pattern takes minutes on two megabytes; the slowest of these takes a second here.
    assert whole < 15


def test_failing_names_are_bounded():
    text = "=== short test summary info ===\n" + "".join(f"FAILED t.py::test_{n} - x\n" for n in range(80))
    found = summarize(text + "80 failed in 1.00s")
    assert found is not None
    assert (found["failed"], len(found["failures"])) == (80, 50)


@pytest.mark.parametrize(
    ("text", "command", "passed", "failed"),
    [
        ("3 passed", "pytest -q", 3, 0),
        ("3 passed in 0.1s\n[main 1a2b3c4] US-001: x\n", "pytest -q && git commit -m x", 3, 0),
        ("1 failed, 2 passed\n", "bash -lc '.venv/bin/pytest -q'", 2, 1),
        ("2 passed", "python -m pytest", 2, 0),
    ],
)
def test_a_shortened_summary_is_believed_of_pytest_alone(text, command, passed, failed):
    found = summarize(text, command)
    assert (found["passed"], found["failed"], found["runner"]) == (passed, failed, "pytest")
    assert summarize(text) is None
    assert summarize(text, "cat pytest.log") is None
    assert summarize("3 passed the exam", command) is None

"""The tests' own rule: a skip has a reason and is listed at the end, and with REQUIRE=all it is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from tests.support import ROOT

SUITE = """
import pytest

@pytest.mark.requires("here")
def test_that_runs(): pass

@pytest.mark.requires("here", "gone")
def test_with_a_requirement(): raise AssertionError("must not run")

def test_that_skips_itself(): pytest.skip("no moon tonight")

@pytest.mark.xfail(strict=True, reason="known")
def test_that_is_known_to_fail(): assert False
"""
REQUIREMENTS = """
REQUIREMENTS = {"here": lambda: None, "gone": lambda: "gone is not installed (apt-get install gone)"}
def missing(name): return REQUIREMENTS[name]()
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A project with our conftest.py, other requirements and four tests."""
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ("conftest.py", "order.py", "support.py"):
        (tests / name).write_text((ROOT / "tests" / name).read_text())
    (tests / "requirements.py").write_text(REQUIREMENTS)
    (tests / "test_suite.py").write_text(SUITE)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return tmp_path


def run(suite: Path, require: str | None, *options: str) -> tuple[int, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "CLAUDE_LOOP_TEST_REQUIRE"}
    environment["PYTHONPATH"] = str(suite)
    # Those that pyproject.toml has settings for, and none of the others: they take most of the time of such a run.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if require:
        environment["CLAUDE_LOOP_TEST_REQUIRE"] = require
    plugins = [f"-p{name}" for name in ("no:cacheprovider", "pytest_asyncio.plugin", "pytest_timeout")]
    line = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    done = subprocess.run(
        line, cwd=suite, env=environment, stdout=PIPE, stderr=STDOUT, text=True, timeout=50, check=False
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("options", [(), ("-p", "xdist.plugin", "-n", "2")], ids=["one process", "two"])
def test_skips_are_listed_last_with_their_reasons(suite, options):
    status, lines = run(suite, None, *options)
    assert status == 0
    summary = lines.index("Not run:")
    assert "1 passed, 2 skipped, 1 xfailed" in lines[summary - 2]
    assert lines[summary + 1 :] == [
        "- gone is not installed (apt-get install gone)",
        "    tests/test_suite.py::test_with_a_requirement",
        "- no moon tonight",
        "    tests/test_suite.py::test_that_skips_itself",
    ]


def test_where_all_is_required_a_skip_is_a_failure_and_the_closing_line_is_last(suite):
    status, lines = run(suite, "all")
    assert status == 1
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in lines[-1]
    assert any("no moon tonight" in line for line in lines)


def test_a_skipped_module_counts_as_well(suite):
    (suite / "tests" / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    status, lines = run(suite, None)
    assert status == 0
    assert any(line.startswith("- could not import 'no_such_module'") for line in lines)
    status, lines = run(suite, "all")
    assert status not in {0, 5}


def test_a_requirement_that_nobody_knows_stops_the_run(suite):
    (suite / "tests" / "test_more.py").write_text("import pytest\n@pytest.mark.requires('unheard')\ndef test(): pass\n")
    status, lines = run(suite, None)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert any("requires ['unheard']" in line for line in lines)

"""The page's types are those of the daemon's schemas."""

import subprocess
import sys

from tests.support import ROOT


def test_the_page_s_types_are_not_stale():
    line = [sys.executable, str(ROOT / "web" / "generate_types.py"), "--check"]
    stale = subprocess.run(line, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False).returncode
    assert not stale, "run: .venv/bin/python web/generate_types.py"

"""The page's types are those of the daemon's schemas."""

import re
import subprocess
import sys

from claude_loop.filters import FILTER_KEYS
from tests.support import ROOT


def test_the_page_s_types_are_not_stale():
    line = [sys.executable, str(ROOT / "web" / "generate_types.py"), "--check"]
    stale = subprocess.run(line, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False).returncode
    assert not stale, "run: .venv/bin/python web/generate_types.py"


def test_the_page_offers_every_key_of_a_filter():
    source = (ROOT / "web" / "src" / "stream" / "filter.ts").read_text()
    offered = dict(re.findall(r'key: "(\w+)".*?query: "(\w+)"', source))
    assert offered == {key.name: key.attribute for key in FILTER_KEYS.values()}

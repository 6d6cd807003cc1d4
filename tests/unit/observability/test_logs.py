"""What the daemon writes to its log: one line an entry, whatever is in it. In a process of its own: logging is global."""

import re
import subprocess
import sys

import pytest

from tests.support import ROOT

PROGRAM = """
import logging, structlog, sys
early = structlog.get_logger("early")
from claude_loop.observability.logs import configure_logging
configure_logging(sys.argv[1])
log = structlog.get_logger("late")
early.debug("seen early")
log.info("two words", path="/a b", text='a "quoted"\\nsecond line', none=None, yes=True, word="ä", name="\x1b[31m\x9b\u202e")
log.warning("hm")
try:
    raise ValueError("first\\nsecond")
except ValueError:
    log.exception("it failed")
    logging.getLogger("a.library").exception("theirs failed %s", "too")
logging.getLogger("a.library").info("of no interest")
logging.getLogger("a.library").warning("of\\ninterest")
"""


def entries(level):
    line = [sys.executable, "-W", "error", "-c", PROGRAM, level]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_each_entry_is_one_line_with_time_level_and_words():
    lines = entries("debug")
    assert len(lines) == 6
    for line in lines:
        assert re.match(r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z level=\w+ event=", line), line
    early, info, warning, failed, theirs, library = lines
    assert 'event="seen early"' in early
    assert 'path="/a b"' in info
    assert r'text="a \"quoted\"\nsecond line"' in info
    assert "yes=true" in info
    assert "word=ä" in info
    assert r"name=\x1b[31m\x9b\x202e" in info
    assert "level=warning event=hm" in warning
    for line in (failed, theirs):
        assert r"ValueError: first\nsecond" in line
    assert 'event="theirs failed too"' in theirs
    assert r"of\ninterest" in library


@pytest.mark.parametrize(("level", "expected"), [("info", 5), ("warning", 4), ("error", 2)])
def test_what_is_below_the_level_is_left_out(level, expected):
    assert len(entries(level)) == expected


@pytest.mark.requires("linux")
def test_a_log_that_cannot_be_written_fails_nobody():
    """As when daemon.log lies on a full disk: whoever logs there goes on."""
    program = PROGRAM + "\nsys.stdout.write('went on')"
    with open("/dev/full", "wb") as full:
        line = [sys.executable, "-W", "error", "-c", program, "debug"]
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, timeout=30, check=True)
    assert done.stdout == "went on"

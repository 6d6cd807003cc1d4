"""A terminal of the test's own, with a shell in it that has job control: what a person would sit at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import termios
import time
from pathlib import Path

from tests.support import PATIENCE, ROOT, alive

WRAPPER = ROOT / "claude_loop" / "wrapper"


def wrapped(directory: Path) -> str:
    """The beginning of a command line that runs the rest under the wrapper, which keeps output in ``directory``."""
    return shlex.join(wrapper_of(directory))


def wrapper_of(directory: Path) -> list[str]:
    directory.mkdir(parents=True, exist_ok=True)
    (directory.parent.parent / "spool").mkdir(exist_ok=True)
    # `bin/coverage` is among the packages that -S leaves out.
    lone = [] if "COVERAGE_PROCESS_CONFIG" in os.environ else ["-S"]
    return [sys.executable, "-I", *lone, str(WRAPPER), str(directory)]


def kept(directory: Path) -> bytes:
    """What the tee holds."""
    return b"".join(path.read_bytes() for path in sorted(directory.glob("output.*")))


class Shell:
    """Interactive bash in a pseudo-terminal of 80 columns and 24 rows."""

    def __init__(self, folder: Path) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            environment = os.environ | {"PS1": "READY> ", "HISTFILE": "", "TERM": "xterm", "PROMPT_COMMAND": ""}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
        self.seen = b""
        self._from = 0
        self.resize(24, 80)
        self.expect("READY> ")
        self.run("bind 'set enable-bracketed-paste off'")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Wait for a match in what has been shown since the last one."""
        deadline = time.monotonic() + seconds
        compiled = re.compile(pattern.encode(), re.DOTALL)
        while True:
            match = compiled.search(self.seen, self._from)
            if match:
                self._from = match.end()
                return match[0].decode(errors="replace")
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen[self._from :]!r}"
            self._read(left)

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                raise AssertionError(f"the terminal has closed: {self.seen[self._from :]!r}") from None

    def run(self, line: str) -> tuple[str, int]:
        """Run a line to its end; what it showed, and its status."""
        self.type(f'{line}; echo "D"ONE:$?:\n')
        self.expect(r"ONE:\$\?:\r\n")
        begun = self._from
        self.expect(r"DONE:\d+:\r\n")
        shown = self.seen[begun : self._from].decode(errors="replace")
        self.expect("READY> ")
        output, _, status = shown.rpartition("DONE:")
        return output, int(status.partition(":")[0])

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.master)

    def close(self) -> None:
        if alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.master)
        os.waitpid(self.pid, 0)

"""A terminal of the test's own, with a shell in it that has job control: what a person would sit at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

from tests.support import ROOT

WRAPPER = ROOT / "claude_loop" / "wrapper"


def wrapped(directory: Path) -> str:
    """The beginning of a command line that runs the rest under the wrapper."""
    directory.mkdir(parents=True, exist_ok=True)
    return f"{sys.executable} -I -S {WRAPPER} {directory}"


def kept(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.glob("output.*")))


class Shell:
    """Interactive bash in a pseudo-terminal of 80 columns and 24 rows."""

    def __init__(self, folder: Path) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ |= {"PS1": "READY> ", "HISTFILE": "", "TERM": "xterm", "PROMPT_COMMAND": ""}
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.resize(24, 80)
        self.seen = b""
        self._from = 0
        self.expect("READY> ")
        self.do("bind 'set enable-bracketed-paste off' 2>/dev/null")

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str, seconds: float = 15.0) -> re.Match[bytes]:
        """Wait for a match in what has been shown since the last one."""
        deadline = time.monotonic() + seconds
        compiled = re.compile(pattern.encode())
        while True:
            match = compiled.search(self.seen, self._from)
            if match:
                self._from = match.end()
                return match
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen[self._from :]!r}"
            self._read(left)

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                raise AssertionError(f"the terminal has closed: {self.seen[self._from :]!r}") from None

    def do(self, line: str) -> str:
        """Run a line to its end; what it showed."""
        begun = self._from
        self.type(f'{line}; echo "D"ONE:$?:\n')
        match = self.expect(r"DONE:(\d+):\r\n")
        shown = self.seen[begun : match.start()].decode(errors="replace")
        self.expect("READY> ")
        return shown.partition("\n")[2] + f"={match[1].decode()}"

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.master)

    def close(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.master)
        os.waitpid(self.pid, 0)

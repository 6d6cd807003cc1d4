"""Starts daemons quickly: a process that has imported everything forks them, so that a kill costs no second of imports.

A daemon from here is the same code in a process of its own, and a child of the runner's (which adopts orphans), so it
is waited for like any other. ``python -m tests.prove.nursery`` reads one request a line and answers with a pid.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.support import ROOT

_PR_SET_CHILD_SUBREAPER = 36


class Nurse:
    """The runner's side. One for all scenarios, which ask from several threads, one at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def start(self, plan: dict[str, Any], arguments: list[str], environ: dict[str, str], log: Path) -> Adopted:
        request = json.dumps([plan, arguments, environ, str(log)]).encode() + b"\n"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(request)
            self._process.stdin.flush()
            return Adopted(int(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        # Who goes on after this, such as other tests, is not to inherit everybody's orphans.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Adopted:
    """What ``subprocess.Popen`` offers, for a child that another process has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 30.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def main() -> None:
    import uvloop  # noqa: F401

    import claude_loop.cli.serve
    import claude_loop.daemon  # noqa: F401
    from tests.prove import serve

    for line in sys.stdin.buffer:
        plan, arguments, environ, log = json.loads(line)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            # The grandchild is an orphan at once, and so the runner's child.
            child = os.fork()
            if child == 0:
                os.close(reading)
                os.close(writing)
                become(environ, log)
                serve.main(plan, arguments)
                os._exit(0)
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(writing)
        pid = os.read(reading, 32)
        os.close(reading)
        os.waitpid(between, 0)
        sys.stdout.buffer.write(pid + b"\n")
        sys.stdout.buffer.flush()


def become(environ: dict[str, str], log: str) -> None:
    """What a fresh process would have got from its parent."""
    os.environ.clear()
    os.environ.update(environ)
    random.seed()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)


if __name__ == "__main__":
    main()

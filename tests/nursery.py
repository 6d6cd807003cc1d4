"""Starts daemons quickly: a process that has imported everything forks them, so that a start costs no second of imports.

A daemon from here is the same code in a process of its own, told the same by arguments and environment. What a process
has from its interpreter alone it lacks: ``/proc/PID/cmdline`` and ``environ`` are the nursery's, and the garbage collector
is at work during the start. ``python -m tests.nursery`` reads one request a line, and answers each with a line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn, Self

from tests.support import ROOT


class Nurse:
    """Starts the nursery when it is first asked for, and may be asked from several threads; whoever is still alive at
    its end, ends."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._asked = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.environ = dict(os.environ) | {"PYTHONPATH": str(ROOT)}

    def suits(self, environ: dict[str, str]) -> bool:
        """Whether an interpreter that was started with this environment would be like the nursery's."""
        return _of_interpreter(environ) == _of_interpreter(self.environ)

    def start(
        self, arguments: list[str], environ: dict[str, str], log: Path, plan: dict[str, Any] | None = None
    ) -> Adopted:
        """A daemon; ``plan`` is that of ``tests.prove.serve``, if it is to be started by it."""
        return Adopted(self, self._ask("start", arguments, environ, str(log), plan))

    def status(self, pid: int) -> int | None:
        """How it has ended, as ``os.waitpid`` says it, or None."""
        return self._ask("status", pid)

    def _ask(self, *request: Any) -> Any:
        with self._turn:
            process = self._process = self._process or self._begun()
            assert process.stdin is not None
            assert process.stdout is not None
            self._asked += 1
            process.stdin.write(json.dumps([self._asked, *request]).encode() + b"\n")
            process.stdin.flush()
            # A time limit or a signal may have broken off the request before: its answer, or the end of it, is still to come.
            while line := process.stdout.readline():
                with contextlib.suppress(ValueError):  # the end of an answer is no JSON: it has but its last bracket
                    number, answer = json.loads(line)
                    if number == self._asked:
                        return answer
            raise ChildProcessError(f"The nursery has ended with status {process.wait()}.")

    def _begun(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environ,
            start_new_session=True,  # Ctrl-C is for whoever asks: the nursery ends the daemons when its input ends
        )

    def close(self) -> None:
        if self._process is not None:
            with self._process as process:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _of_interpreter(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LD_", "COVERAGE_"))}


class Adopted:
    """What ``subprocess.Popen`` offers, for a child of the nursery."""

    def __init__(self, nurse: Nurse, pid: int) -> None:
        self._nurse = nurse
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            status = self._nurse.status(self.pid)
            if status is not None:
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

    gc.freeze()  # else each daemon copies every page when it first looks for garbage
    children = _Children()
    nursery = os.getpid()
    try:
        for line in sys.stdin.buffer:
            number, what, *arguments = json.loads(line)
            answer = children.start(*arguments) if what == "start" else children.status(*arguments)
            print(json.dumps([number, answer]), flush=True)
    finally:
        if os.getpid() == nursery:  # a daemon leaves through here as well
            children.kill()


class _Children:
    """How each has ended is kept: two threads may ask for the same."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._ended: dict[int, int] = {}

    def start(self, arguments: list[str], environ: dict[str, str], log: str, plan: dict[str, Any] | None) -> int:
        pid = os.fork()
        if pid == 0:
            _be_daemon(arguments, environ, log, plan)
        self._alive.add(pid)
        self._ended.pop(pid, None)
        return pid

    def status(self, pid: int) -> int | None:
        if pid in self._alive:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._alive.remove(pid)
                self._ended[pid] = status
        return self._ended.get(pid)

    def kill(self) -> None:
        for pid in self._alive:  # not waited for, so the pid is still its own
            os.kill(pid, signal.SIGKILL)


def _be_daemon(arguments: list[str], environ: dict[str, str], log: str, plan: dict[str, Any] | None) -> NoReturn:
    take_over(environ, log)
    if plan is None:
        from claude_loop.cli import main as command_line

        sys.argv = ["claude-loop", *arguments]
        command_line()
    else:
        from tests.prove import serve

        serve.main(plan, arguments)
    sys.exit(0)


def take_over(environ: dict[str, str], log: str) -> None:
    """What a fresh process would have got from its parent."""
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
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

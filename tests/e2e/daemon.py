"""A real daemon in a process of its own, to be started, killed and started again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from claude_loop.paths import Home
from tests.nursery import Adopted, Nurse
from tests.support import PATIENCE, ROOT, free_port, until


class Daemon:
    """`claude-loop serve` on one home and one port, whatever happens to its processes."""

    #: Starts it where that is the same as to start an interpreter.
    nurse: Nurse | None = None

    def __init__(self, root: Path, **environ: str) -> None:
        self.home = Home(root)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = root.with_name(f"{root.name}.log")
        self.environ = clean_environment(root) | environ
        self.process: subprocess.Popen[bytes] | Adopted | None = None

    def start(self, seconds: float = PATIENCE) -> None:
        """Start it and wait until it listens."""
        self.process = process = self._spawn(["serve", "--port", str(self.port)])
        try:
            until(lambda: self._serves(process), seconds, f"daemon did not start: {self.log.read_text()[-2000:]}")
        except BaseException:
            self.kill()  # else it lives on, and Python warns of it in whatever test runs when it is forgotten
            raise

    def _spawn(self, arguments: list[str]) -> subprocess.Popen[bytes] | Adopted:
        if self.nurse is not None and self.nurse.suits(self.environ):
            self.log.touch()
            return self.nurse.start(arguments, self.environ, self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "claude_loop", *arguments],
                env=self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _serves(self, process: subprocess.Popen[bytes] | Adopted) -> bool:
        assert process.poll() is None, self.log.read_text()[-3000:]
        try:
            return json.loads(self.home.daemon_json.read_bytes())["pid"] == process.pid
        except FileNotFoundError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as `down` does; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """A command of the command line on this home."""
        return run_command(self.environ, *arguments, **options)


def run_command(environ: dict[str, str], *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A command of the command line, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "claude_loop", *arguments],
        env=environ,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    done.stderr = without_waiting(done.stderr)
    return done


def without_waiting(words: str) -> str:
    """What a command said, but for the line that it says only where a daemon takes more than some seconds to start."""
    return re.sub(
        r"^claude-loop is still starting; waiting for it, up to \d+ seconds\.\n", "", words, flags=re.MULTILINE
    )


@contextmanager
def shared_daemon(**environ: str) -> Iterator[Daemon]:
    """One daemon for all tests of a module that leave it running and its log to others, on a short path."""
    folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    try:
        with Daemon(folder / "home", XDG_CONFIG_HOME=str(folder), **environ) as daemon:
            yield daemon
    finally:
        shutil.rmtree(folder)


def clean_environment(home: Path) -> dict[str, str]:
    """What a process under test sees: nothing of this test run's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLAUDE_LOOP_")}
    return kept | {"CLAUDE_LOOP_HOME": str(home), "PYTHONPATH": str(ROOT), "CLAUDE_LOOP_PROJECT": "proof"}

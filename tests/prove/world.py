"""What a scenario gets: dice, a folder, daemons to torment, and a place to count. Whatever it starts ends with it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar

import aiohttp

from claude_loop.supervision import TaskOwner
from tests.e2e.daemon import Daemon
from tests.nursery import Nurse
from tests.support import ROOT

Number = TypeVar("Number", int, float)
Size = Literal["short", "long"]


class Skipped(Exception):
    """The scenario cannot run on this machine; the text says why."""


class DaemonUnderTest(Daemon):
    """A daemon with a plan: what is done to it before it starts (``tests.prove.serve``)."""

    #: What goes before the interpreter.
    tracer: tuple[str, ...] = ()
    python = sys.executable

    def __init__(self, root: Path, plan: dict[str, Any], nurse: Nurse | None, **environ: str) -> None:
        super().__init__(root, **environ)
        self.plan = plan
        self.kills = 0
        self.nurse = nurse

    def start(self, seconds: float = 30.0) -> None:
        super().start(seconds)

    def launch(self) -> None:
        """Start it, and do not wait for anything."""
        self.process = self._spawn(["serve", "--port", str(self.port)])

    def _spawn(self, arguments: list[str]) -> Any:
        self.log.touch()
        if self.nurse is not None:
            return self.nurse.start(arguments, self.environ, self.log, self.plan)
        program = ["-m", "tests.prove.serve", json.dumps(self.plan)] if self.plan else ["-m", "claude_loop"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.tracer, sys.executable, *program, *arguments],
                env=self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        super().kill()
        self.kills += 1

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class World:
    """One run of one scenario."""

    #: Figures that every scenario has.
    COUNTED = ("acknowledged", "delivered", "kills", "duplicates", "resets")

    def __init__(
        self,
        name: str,
        seed: int,
        size: Size = "short",
        mutant: str | None = None,
        inputs: int = 0,
        nurse: Nurse | None = None,
    ) -> None:
        self.name = name
        self._nurse = nurse
        self.seed = seed
        self.size = size
        self.mutant = mutant
        self.inputs = inputs
        self.dice = Random(f"{seed} {name}")
        # Short: the address of a Unix socket has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="prove-", dir="/tmp"))
        self.counts: dict[str, int] = dict.fromkeys(self.COUNTED, 0)
        self.tasks = TaskOwner(name)
        self._daemons: list[DaemonUnderTest] = []
        self._ends = contextlib.ExitStack()

    def pick(self, short: Number, long: Number) -> Number:
        """A figure that depends on how thorough the run is to be."""
        return short if self.size == "short" else long

    def daemon(
        self,
        name: str = "home",
        *,
        root: Path | None = None,
        environ: dict[str, str] | None = None,
        cold: bool = False,
        **plan: Any,
    ) -> DaemonUnderTest:
        """A daemon on a home of its own, not started yet; ``cold``: begun by the interpreter, not by the nursery."""
        if self.mutant is not None:
            plan["mutant"] = self.mutant
        nurse = None if cold else self._nurse
        one = DaemonUnderTest(root or self.folder / name, plan, nurse, **(environ or {}))
        self._daemons.append(one)
        return one

    def process(self, arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process that ends with the scenario."""
        process = subprocess.Popen(arguments, **{"stdin": subprocess.DEVNULL, **options})
        self.at_end(lambda: (process.kill(), process.wait()))
        return process

    def at_end(self, undo: Callable[[], object]) -> None:
        self._ends.callback(undo)

    def count(self, **figures: int) -> None:
        for name, figure in figures.items():
            self.counts[name] = self.counts.get(name, 0) + figure

    def last_words(self) -> str:
        """How the logs of the daemons end."""
        logs = {daemon.log for daemon in self._daemons if daemon.log.exists()}
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-4000:]}" for log in sorted(logs))

    async def close(self) -> None:
        await self.tasks.close()
        for daemon in self._daemons:
            if daemon.is_alive:
                daemon.process.kill()
                daemon.process.wait()
        self.count(kills=sum(daemon.kills for daemon in self._daemons))
        try:
            self._ends.close()  # all of them, whatever becomes of one
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


async def get_json(url: str, **query: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
        return await answer.json()
